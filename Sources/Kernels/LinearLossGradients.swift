// Gradients of a linear layer's cross-entropy: of its weights, and of the hidden states
// (LinearLoss.swift).

import CSupport

extension Kernels {
  /// A span of classes: its logits become gradients, which the weights take up; and its part of the
  /// tokens' gradients.
  @inline(never)
  static func addClasses<L: TileLanes>(
    _ rooms: LossRooms<L>, _ span: Int, _ first: Int, _ last: Int,
    _ own: UnsafeMutablePointer<L.Scalar>
  ) {
    let job = rooms.job
    let lanes = LossRooms<L>.lanes
    let wantsTokens = job.pointee.d_hidden.data != nil
    let isFirst = job.pointee.first == 0
    if wantsTokens {
      for block in 0..<rooms.blocks {
        for tile in 0..<LossRooms<L>.tiles {
          clear(L.self, rooms.part(span, block, tile), rooms.padded &* lanes)
        }
      }
    }
    var from = first
    while from < last {
      let to = Swift.min(from &+ Int(SMXK_CLASS_BLOCK), last)
      let weights = wantsTokens ? rooms.weights(from, to, own) : TileLeft(base: own, stride: 0)
      var next = rooms.ahead(
        weights: to, before: last, strips: rooms.blocks &* LossRooms<L>.tiles &* (rooms.columns / 8)
      )
      for block in 0..<rooms.blocks {
        let gradients = rooms.logits(block, from)
        subtractTargets(rooms, block, from, to)
        for tile in 0..<LossRooms<L>.tiles where wantsTokens {
          product(
            ColumnGoal<L>(), weights, rows: rooms.columns, steps: to &- from,
            gradients + tile &* lanes,
            rooms.part(span, block, tile), lanes: lanes, ahead: &next)
        }
        if job.pointee.d_bias.data != nil {
          addBias(rooms, block, from, to, isFirst: isFirst && block == 0)
        }
      }
      from = to
    }
    // After all blocks of the span: a block's weights and their gradients, the hidden states and
    // theirs are together more than the second-level cache holds (1024 × 768 × 32000: 10 % more
    // time with both sums block by block).
    if job.pointee.d_weight.data != nil { addWeights(rooms, first, last) }
  }

  /// What a span of classes, now gradients, adds to those of the weights.
  @inline(__always)
  private static func addWeights<L: TileLanes>(_ rooms: LossRooms<L>, _ first: Int, _ last: Int) {
    let job = rooms.job
    let tokens = Int(SMXK_QUERY_BLOCK)
    let pitch = Int(job.pointee.gradient_pitch)
    let isFirst = job.pointee.first == 0
    let isLast = job.pointee.first &+ job.pointee.count == job.pointee.tokens
    var from = first
    while from < last {
      let to = Swift.min(from &+ Int(SMXK_CLASS_BLOCK), last)
      if isFirst { clearRows(L.self, rooms.sums(from), pitch, rooms.columns, to &- from) }
      var next = rooms.ahead(
        sums: to, before: last,
        strips: rooms.blocks &* (rooms.padded / (3 &* L.count)) &* ((to &- from) / 8))
      for block in 0..<rooms.blocks {
        var vector = 0
        while vector < rooms.padded / L.count {
          let width = panelWidth(rooms.padded / L.count, from: vector)
          product(
            RowGoal<L>(pitch: pitch),
            TileLeft(
              base: rooms.logits(block, from), stride: tokens &* MemoryLayout<L.Scalar>.stride),
            rows: to &- from, steps: Swift.min(tokens, Int(job.pointee.count) &- block &* tokens),
            rooms.panels(block) + vector &* tokens &* L.count,
            rooms.sums(from) + vector &* L.count,
            lanes: width &* L.count, ahead: &next)
          vector = vector &+ width
        }
      }
      if isLast { writeClasses(rooms, from, to) }
      from = to
    }
  }

  /// Logits of a block of classes to their gradients: what the weights count, less the smoothed
  /// part of all classes, less the target's. 0 for an ignored token, whose logits of a row with a
  /// NaN or an infinity are NaN.
  @inline(never)
  private static func subtractTargets<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ from: Int, _ to: Int
  ) {
    let job = rooms.job
    let tokens = Int(SMXK_QUERY_BLOCK)
    let logits = rooms.logits(block, from)
    let smoothing = job.pointee.label_smoothing
    let each = L(L.Scalar(smoothing / Double(rooms.classes)))
    var lane = 0
    while lane < tokens {
      let high = L(0) - L(at: rooms.state(SMXK_LOSS_HIGH, block) + lane)
      let low = L(at: rooms.state(SMXK_LOSS_LOW, block) + lane)
      let weight = L(at: rooms.state(SMXK_LOSS_WEIGHT, block) + lane)
      let smoothed = L(0) - L(at: rooms.state(SMXK_LOSS_TARGET, block) + lane) * each
      for j in 0..<(to &- from) {
        let p = logits + (j &* tokens &+ lane)
        // As in `addExponentials`.
        let d = L(at: p).fma(L(L.log2e), high) - low
        let gradient = L.pick(L(2), lessThan: d, L(2), d).weight().fma(weight, smoothed)
        L.pick(high, equalTo: L(-.infinity), L(0), gradient).store(at: p)
      }
      lane = lane &+ L.count
    }
    for i in 0..<Swift.min(tokens, Int(job.pointee.count) &- block &* tokens) {
      let target = rooms.target(Int(job.pointee.first) &+ block &* tokens &+ i)
      if target < from || target >= to { continue }
      let p = logits + ((target &- from) &* tokens &+ i)
      p.pointee -= rooms.state(SMXK_LOSS_TARGET, block)[i] * L.Scalar(1 - smoothing)
    }
  }

  /// A block's gradients of logits, summed over its tokens in float64, into those of the bias.
  @inline(never)
  private static func addBias<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ from: Int, _ to: Int, isFirst: Bool
  ) {
    let job = rooms.job
    for j in from..<to {
      let row = rooms.logits(block, j)
      var sum = 0.0
      for i
        in 0..<Swift.min(
          Int(SMXK_QUERY_BLOCK), Int(job.pointee.count) &- block &* Int(SMXK_QUERY_BLOCK))
      {
        sum += Double(row[i])
      }
      let p = UnsafeMutableRawPointer(
        job.pointee.d_bias.data! + j &* Int(job.pointee.d_bias.column))
      let before = isFirst ? 0 : p.loadUnaligned(as: L.Scalar.self)
      let value = L.Scalar(Double(before) + sum) + 0
      p.storeBytes(of: value == value ? value : .nan, as: L.Scalar.self)
    }
  }

  /// Finished rows of the weight's gradient.
  @inline(__always)
  private static func writeClasses<L: TileLanes>(_ rooms: LossRooms<L>, _ from: Int, _ to: Int) {
    let job = rooms.job
    for j in from..<to {
      let row = rooms.sums(j)
      closeColumns(L.self, row, rooms.padded, times: 1)
      if job.pointee.is_gradient_direct != 0 { continue }
      write(
        L.self, job.pointee.dtype,
        UnsafeMutableRawPointer(job.pointee.d_weight.data! + j &* Int(job.pointee.d_weight.row)),
        Int(job.pointee.d_weight.column), row, rooms.columns)
    }
  }

  /// The gradients of a block of tokens: the spans' parts, added in order.
  @inline(never)
  static func joinParts<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ own: UnsafeMutablePointer<L.Scalar>
  ) {
    let job = rooms.job
    let lanes = LossRooms<L>.lanes
    let padded = rooms.padded
    for tile in 0..<LossRooms<L>.tiles {
      let sums = rooms.part(0, block, tile)
      for span in 1..<Int(job.pointee.span_count) {
        let part = rooms.part(span, block, tile)
        var i = 0
        while i < padded &* lanes {
          (L(at: sums + i) + L(at: part + i)).store(at: sums + i)
          i = i &+ L.count
        }
      }
      closeColumns(L.self, sums, padded &* lanes, times: 1)
      var lane = 0
      while lane < lanes {
        var column = 0
        while column < padded {
          transpose(L.self, sums + (column &* lanes &+ lane), lanes, own + column, padded)
          column = column &+ L.count
        }
        for l in 0..<L.count {
          let token = block &* Int(SMXK_QUERY_BLOCK) &+ tile &* lanes &+ lane &+ l
          if token >= Int(job.pointee.count) { break }
          // 0 times a weight that is NaN or infinite is NaN.
          if rooms.target(Int(job.pointee.first) &+ token) < 0 {
            clear(L.self, own + l &* padded, padded)
          }
          write(
            L.self, job.pointee.dtype,
            UnsafeMutableRawPointer(
              job.pointee.d_hidden.data! + (Int(job.pointee.first) &+ token)
                &* Int(job.pointee.d_hidden.row)),
            Int(job.pointee.d_hidden.column), own + l &* padded, rooms.columns)
        }
        lane = lane &+ L.count
      }
    }
  }
}

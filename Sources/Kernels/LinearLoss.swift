// Cross-entropy of a linear layer, logits = hidden · weightᵀ + bias, with its gradients
// (docs/training.md).
//
// All logits at once would be the largest array of a training step. Here tokens go in groups of
// some blocks of 48, whose logits fit into tens of megabytes; each group has four passes, shared by
// spans of 2048 classes or by blocks of tokens:
//
//     logits   S = W·Hᵀ + b, and each span's sum of exponentials, as in attention   spans
//     rows     lse, loss, what a token counts in the gradients                      blocks
//     classes  dS = p - y;  the span's part of dH = dSᵀ·W;  then dW = dW + dS·H       spans
//     tokens   dH, the spans' parts added in order                                  blocks
//
// Three products, as many as with all logits in memory. The weights come from memory twice a group
// and their gradient goes there and back once: with 192 tokens a group that is a fifteenth of the
// time that the products take.
//
// Every inner product is a chain of fused multiply-adds over 128 columns (128 classes, 48 tokens),
// and these are added in order; sums over the classes begin anew with each span. So neither threads
// nor groups show. Order is part of the contract.

import CSupport

extension Kernels {
  /// Places in the rooms.
  struct LossRooms<L: TileLanes> {
    let job: UnsafePointer<smxk_linear_loss>

    static var lanes: Int { @inline(__always) get { Kernels.tileLanes(L.self) } }
    static var tiles: Int { @inline(__always) get { Int(SMXK_QUERY_BLOCK) / lanes } }
    var columns: Int { @inline(__always) get { Int(job.pointee.columns) } }
    var padded: Int { @inline(__always) get { Int(job.pointee.padded) } }
    var classes: Int { @inline(__always) get { Int(job.pointee.classes) } }
    var blocks: Int {
      @inline(__always) get {
        (Int(job.pointee.count) &+ Int(SMXK_QUERY_BLOCK) &- 1) / Int(SMXK_QUERY_BLOCK)
      }
    }

    @inline(__always) func numbers(
      _ room: UnsafeMutablePointer<CChar>?, _ at: Int
    ) -> UnsafeMutablePointer<L.Scalar> {
      UnsafeMutableRawPointer(room!).assumingMemoryBound(to: L.Scalar.self) + at
    }
    /// Logits of a block, then their gradients: (classes, SMXK_QUERY_BLOCK).
    @inline(__always) func logits(_ block: Int, _ first: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(job.pointee.logits, (block &* classes &+ first) &* Int(SMXK_QUERY_BLOCK))
    }
    @inline(__always) func turned(_ block: Int, _ tile: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(job.pointee.turned, (block &* Self.tiles &+ tile) &* padded &* Self.lanes)
    }
    @inline(__always) func panels(_ block: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(job.pointee.panels, block &* padded &* Int(SMXK_QUERY_BLOCK))
    }
    @inline(__always) func state(_ row: Int, _ block: Int) -> UnsafeMutablePointer<L.Scalar> {
      numbers(
        job.pointee.states, row &* Int(job.pointee.group_tokens) &+ block &* Int(SMXK_QUERY_BLOCK))
    }
    @inline(__always) func span(
      _ span: Int, _ row: Int, _ block: Int
    ) -> UnsafeMutablePointer<L.Scalar> {
      numbers(
        job.pointee.spans,
        (span &* Int(SMXK_SPAN_STATES) &+ row) &* Int(job.pointee.group_tokens) &+ block
          &* Int(SMXK_QUERY_BLOCK))
    }
    @inline(__always) func part(
      _ span: Int, _ block: Int, _ tile: Int
    ) -> UnsafeMutablePointer<L.Scalar> {
      let blocks = Int(job.pointee.group_tokens) / Int(SMXK_QUERY_BLOCK)
      return numbers(
        job.pointee.parts, ((span &* blocks &+ block) &* Self.tiles &+ tile) &* padded &* Self.lanes
      )
    }
    /// Sums of the weight's gradient, from class `first` on.
    @inline(__always) func sums(_ first: Int) -> UnsafeMutablePointer<L.Scalar> {
      if job.pointee.is_gradient_direct != 0 {
        return UnsafeMutableRawPointer(
          job.pointee.d_weight.data! + first &* Int(job.pointee.d_weight.row)
        )
        .assumingMemoryBound(to: L.Scalar.self)
      }
      return numbers(job.pointee.sums, first &* Int(job.pointee.gradient_pitch))
    }

    /// A block of classes' weights, in place or read into the thread's room.
    @inline(__always) func weights(
      _ first: Int, _ last: Int, _ own: UnsafeMutablePointer<L.Scalar>
    ) -> TileLeft {
      let weight = job.pointee.weight
      let start = UnsafeRawPointer(weight.data!) + first &* Int(weight.row)
      if job.pointee.is_weight_direct != 0 { return TileLeft(base: start, stride: Int(weight.row)) }
      for j in 0..<(last &- first) {
        Kernels.readRow(
          L.self, job.pointee.dtype, start + j &* Int(weight.row), Int(weight.column),
          own + j &* padded, columns)
      }
      return TileLeft(base: UnsafeRawPointer(own), stride: padded &* MemoryLayout<L.Scalar>.stride)
    }

    /// The weights of the block of classes behind the one up to `next`, or the sums of their
    /// gradients: what a core gets from memory while it multiplies, in so many strips. Nothing at
    /// the end of a span, nor where a block does not fit into the second-level cache beside
    /// another.
    @inline(__always) func ahead(weights next: Int, before last: Int, strips: Int) -> Ahead {
      job.pointee.is_weight_direct == 0
        ? Ahead()
        : ahead(
          UnsafeRawPointer(job.pointee.weight.data!), Int(job.pointee.weight.row), next, last,
          strips)
    }
    @inline(__always) func ahead(sums next: Int, before last: Int, strips: Int) -> Ahead {
      job.pointee.d_weight.data == nil
        ? Ahead()
        : ahead(
          UnsafeRawPointer(sums(0)),
          Int(job.pointee.gradient_pitch) &* MemoryLayout<L.Scalar>.stride, next, last, strips)
    }
    @inline(__always)
    private func ahead(
      _ start: UnsafeRawPointer, _ row: Int, _ next: Int, _ last: Int, _ strips: Int
    ) -> Ahead {
      let rows = Swift.min(Int(SMXK_CLASS_BLOCK), last &- next)
      if rows <= 0 || row <= 0 || rows &* row > 1 << 19 { return Ahead() }
      return Ahead(start + next &* row, bytes: rows &* row, strips: strips)
    }

    /// The target of token `token` of the call, -1 where it is ignored.
    @inline(__always) func target(_ token: Int) -> Int {
      let p = UnsafeRawPointer(job.pointee.targets.data!) + token &* Int(job.pointee.targets.row)
      let target = Int(smxk_integer(job.pointee.target_dtype, p))
      return target == Int(job.pointee.ignore_index) ? -1 : target
    }
  }

  public static func linearLoss<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_linear_loss>, _ task: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let rooms = LossRooms<L>(job: job)
    let own = UnsafeMutableRawPointer(
      job.pointee.own! + Int(scratch.pointee.worker) &* Int(job.pointee.own_bytes)
    )
    .assumingMemoryBound(to: L.Scalar.self)
    let first = task &* Int(SMXK_CLASS_SPAN)
    let last = Swift.min(first &+ Int(SMXK_CLASS_SPAN), rooms.classes)
    switch job.pointee.phase {
    case SMXK_LOSS_TURN: turnTokens(rooms, task, own)
    case SMXK_LOSS_LOGITS: findLogits(rooms, task, first, last, own)
    case SMXK_LOSS_ROWS: findLosses(rooms, task)
    case SMXK_LOSS_CLASSES: addClasses(rooms, task, first, last, own)
    default: joinParts(rooms, task, own)
    }
  }

  /// A block of tokens, in columns of lanes and in panels; 0 for those that are ignored, or are not
  /// there.
  @inline(never)
  private static func turnTokens<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ own: UnsafeMutablePointer<L.Scalar>
  ) {
    let job = rooms.job
    let tokens = Int(SMXK_QUERY_BLOCK)
    let padded = rooms.padded
    let lanes = LossRooms<L>.lanes
    clear(L.self, own, L.count &* padded)
    var i = 0
    while i < tokens {
      for l in 0..<L.count {
        let row = own + l &* padded
        let token = block &* tokens &+ i &+ l
        if token < Int(job.pointee.count) && rooms.target(Int(job.pointee.first) &+ token) >= 0 {
          let p =
            UnsafeRawPointer(job.pointee.hidden.data!) + (Int(job.pointee.first) &+ token)
            &* Int(job.pointee.hidden.row)
          readRow(L.self, job.pointee.dtype, p, Int(job.pointee.hidden.column), row, rooms.columns)
        } else {
          clear(L.self, row, padded)
        }
      }
      let tile = i / lanes
      let lane = i % lanes
      var column = 0
      while column < padded {
        transpose(
          L.self, own + column, padded, rooms.turned(block, tile) + (column &* lanes &+ lane),
          lanes)
        column = column &+ L.count
      }
      var vector = 0
      while vector < padded / L.count {
        let width = panelWidth(padded / L.count, from: vector)
        for l in 0..<L.count {
          let to = rooms.panels(block) + (vector &* tokens &+ (i &+ l) &* width) &* L.count
          for k in 0..<width {
            L(at: own + (l &* padded &+ (vector &+ k) &* L.count)).store(at: to + k &* L.count)
          }
        }
        vector = vector &+ width
      }
      i = i &+ L.count
    }
  }

  // -- logits and losses --------------------------------------------------------------------------

  @inline(never)
  private static func findLogits<L: TileLanes>(
    _ rooms: LossRooms<L>, _ span: Int, _ first: Int, _ last: Int,
    _ own: UnsafeMutablePointer<L.Scalar>
  ) {
    let tokens = Int(SMXK_QUERY_BLOCK)
    let lanes = LossRooms<L>.lanes
    for block in 0..<rooms.blocks {
      fill(
        L.self, rooms.span(span, SMXK_SPAN_EXPONENT, block), -L.Scalar.greatestFiniteMagnitude,
        tokens)
      clear(L.self, rooms.span(span, SMXK_SPAN_WEIGHT, block), tokens)
      clear(L.self, rooms.span(span, SMXK_SPAN_LOGITS, block), tokens)
    }
    var from = first
    while from < last {
      let to = Swift.min(from &+ Int(SMXK_CLASS_BLOCK), last)
      let weights = rooms.weights(from, to, own)
      let pieces = (rooms.columns &+ Int(SMXK_COLUMN_BLOCK) &- 1) / Int(SMXK_COLUMN_BLOCK)
      var ahead = rooms.ahead(
        weights: to, before: last,
        strips: rooms.blocks &* LossRooms<L>.tiles &* pieces &* ((to &- from) / 8))
      for block in 0..<rooms.blocks {
        let logits = rooms.logits(block, from)
        begin(rooms, logits, from, to)
        for tile in 0..<LossRooms<L>.tiles {
          var column = 0
          while column < rooms.columns {
            let steps = Swift.min(Int(SMXK_COLUMN_BLOCK), rooms.columns &- column)
            product(
              RowGoal<L>(pitch: tokens),
              TileLeft(
                base: weights.base + column &* MemoryLayout<L.Scalar>.stride, stride: weights.stride
              ),
              rows: to &- from, steps: steps, rooms.turned(block, tile) + column &* lanes,
              logits + tile &* lanes,
              lanes: lanes, ahead: &ahead)
            column = column &+ steps
          }
        }
        addExponentials(rooms, span, block, logits, to &- from)
      }
      from = to
    }
  }

  /// Every logit of a block of classes starts as its bias.
  @inline(never)
  private static func begin<L: TileLanes>(
    _ rooms: LossRooms<L>, _ logits: UnsafeMutablePointer<L.Scalar>, _ from: Int, _ to: Int
  ) {
    let bias = rooms.job.pointee.bias
    for j in from..<to {
      var value: L.Scalar = 0
      if let data = bias.data {
        value = L.Scalar(readScalar(rooms.job.pointee.dtype, data + j &* Int(bias.column)))
      }
      fill(L.self, logits + (j &- from) &* Int(SMXK_QUERY_BLOCK), value, Int(SMXK_QUERY_BLOCK))
    }
  }

  /// A block's exponentials into the span's sums (AttentionWeights.swift).
  @inline(never)
  private static func addExponentials<L: TileLanes>(
    _ rooms: LossRooms<L>, _ span: Int, _ block: Int, _ logits: UnsafePointer<L.Scalar>,
    _ count: Int
  ) {
    let tokens = Int(SMXK_QUERY_BLOCK)
    var lane = 0
    while lane < tokens {
      var largest = L(-.infinity)
      var total = L(0)
      for j in 0..<count {
        let x = L(at: logits + (j &* tokens &+ lane))
        largest = L.max(x, largest)
        total = total + x
      }
      let exponent = rooms.span(span, SMXK_SPAN_EXPONENT, block) + lane
      let before = L(at: exponent)
      let now = L.max((largest * L(L.log2e)).floor(), before)
      var sum = L(0)
      for j in 0..<count {
        let d = L(at: logits + (j &* tokens &+ lane)).fma(L(L.log2e), L(0) - now)
        // Beyond 2^20 a logit's rounding could leave more than `weight` takes.
        sum = sum + L.pick(L(2), lessThan: d, L(2), d).weight()
      }
      now.store(at: exponent)
      let weight = rooms.span(span, SMXK_SPAN_WEIGHT, block) + lane
      L(at: weight).fma((before - now).weight(), sum).store(at: weight)
      let all = rooms.span(span, SMXK_SPAN_LOGITS, block) + lane
      (L(at: all) + total).store(at: all)
      lane = lane &+ L.count
    }
  }
}

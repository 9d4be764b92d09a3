// Losses of a linear layer's tokens, from the sums that each span of classes has left
// (LinearLoss.swift).

import CSupport

extension Kernels {
  /// lse and loss of a block's tokens, in float64, the spans in order.
  @inline(never)
  static func findLosses<L: TileLanes>(_ rooms: LossRooms<L>, _ block: Int) {
    let job = rooms.job
    let tokens = Int(SMXK_QUERY_BLOCK)
    let smoothing = job.pointee.label_smoothing
    var lane = 0
    while lane < tokens {
      var others: L? = nil
      for i in lane..<lane &+ L.count {
        let token = Int(job.pointee.first) &+ block &* tokens &+ i
        let isThere = block &* tokens &+ i < Int(job.pointee.count)
        let target = target(rooms, block, i)
        var high = L.Scalar.infinity
        var low: L.Scalar = 0
        var weight = 0.0
        var loss = 0.0
        var lse: L.Scalar = 0
        if target >= 0 {
          let found = logSum(rooms, block, i)
          let exact = found.lse
          lse = L.Scalar(exact)
          loss = exact - Double(rooms.logits(block, target)[i])
          if loss < sureLoss {
            if others == nil { others = sumOthers(rooms, block, lane) }
            loss = log1p(Sum(high: Double(others![i &- lane]), low: 0)).high
          }
          if smoothing != 0 {
            // Of a target that is shut out, whose loss is inf, no share may be taken at all.
            let ofTarget = smoothing == 1 ? 0 : (1 - smoothing) * loss
            loss = ofTarget + smoothing * (exact - found.total / Double(rooms.classes))
          }
          loss += job.pointee.z_loss * exact * exact
          weight = job.pointee.factor * (1 + 2 * job.pointee.z_loss * exact)
          high = lse * L.log2e
          low = L.Scalar(exact.fma(Double(L.log2e), -Double(high)))
          if high != high || high - high != 0 { low = 0 }
        }
        if isThere, let data = job.pointee.lse.data {
          UnsafeMutableRawPointer(data + token &* Int(job.pointee.lse.row)).storeBytes(
            of: lse, as: L.Scalar.self)
        }
        if isThere { job.pointee.losses![token] = loss == loss ? loss : .nan }
        rooms.state(SMXK_LOSS_HIGH, block)[i] = high
        rooms.state(SMXK_LOSS_LOW, block)[i] = low
        rooms.state(SMXK_LOSS_WEIGHT, block)[i] = L.Scalar(weight)
        rooms.state(SMXK_LOSS_TARGET, block)[i] = target >= 0 ? L.Scalar(job.pointee.factor) : 0
      }
      lane = lane &+ L.count
    }
  }

  /// The target of a block's token, -1 where it is ignored or not there.
  @inline(never)
  private static func target<L: TileLanes>(_ rooms: LossRooms<L>, _ block: Int, _ i: Int) -> Int {
    let place = block &* Int(SMXK_QUERY_BLOCK) &+ i
    return place < Int(rooms.job.pointee.count)
      ? rooms.target(Int(rooms.job.pointee.first) &+ place) : -1
  }

  /// Below this loss lse and the target's logit cancel: it is log(1 + t) instead, t the sum of the
  /// other classes' exponentials relative to the target's. From 1 on, lse's error of 2^-20 is no
  /// more of the loss.
  private static var sureLoss: Double { @inline(__always) get { 1 } }

  /// That t, of each token in a vector's lanes; only those that are sure need it. Its error is that
  /// of x - target, 2^-24 of it, and of the sum: classes within blocks of 128, blocks in order.
  @inline(never)
  private static func sumOthers<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ lane: Int
  ) -> L {
    let tokens = Int(SMXK_QUERY_BLOCK)
    let logits = rooms.logits(block, 0)
    // The targets' own stand aside meanwhile, as -inf: in a room that may have results of some of
    // the lanes.
    let own = rooms.state(SMXK_LOSS_HIGH, block) + lane
    let results = L(at: own)
    for l in 0..<L.count {
      let target = target(rooms, block, lane &+ l)
      own[l] = 0
      if target < 0 { continue }
      own[l] = logits[target &* tokens &+ lane &+ l]
      logits[target &* tokens &+ lane &+ l] = -.infinity
    }
    let ofTargets = L(at: own)
    var sum = L(0)
    var from = 0
    while from < rooms.classes {
      let to = Swift.min(from &+ Int(SMXK_CLASS_BLOCK), rooms.classes)
      var part = L(0)
      for j in from..<to {
        let d = (L(at: logits + (j &* tokens &+ lane)) - ofTargets) * L(L.log2e)
        part = part + L.pick(L(2), lessThan: d, L(2), d).exp2()
      }
      sum = sum + part
      from = to
    }
    for l in 0..<L.count {
      let target = target(rooms, block, lane &+ l)
      if target >= 0 { logits[target &* tokens &+ lane &+ l] = own[l] }
    }
    results.store(at: own)
    return sum
  }

  /// Of one token, the logarithm of the sum of all classes' exponentials, and the sum of all
  /// logits.
  @inline(never)
  private static func logSum<L: TileLanes>(
    _ rooms: LossRooms<L>, _ block: Int, _ i: Int
  ) -> (lse: Double, total: Double) {
    var exponent = -Double.infinity
    let spans = Int(rooms.job.pointee.span_count)
    for span in 0..<spans {
      let own = Double(rooms.span(span, SMXK_SPAN_EXPONENT, block)[i])
      if own > exponent { exponent = own }
    }
    var sum = 0.0
    var total = 0.0
    for span in 0..<spans {
      let below = Double(rooms.span(span, SMXK_SPAN_EXPONENT, block)[i]) - exponent
      let factor = below > -1000 ? Double(bitPattern: UInt64(1023 &+ Int(below)) &<< 52) : 0
      sum += Double(rooms.span(span, SMXK_SPAN_WEIGHT, block)[i]) * factor
      total += Double(rooms.span(span, SMXK_SPAN_LOGITS, block)[i])
    }
    guard sum > 0 && sum < .infinity else { return (sum == 0 ? -.infinity : .nan, total) }
    // The exponents are of x·log2e, and float32's log2e is off by 2^-26: by its own inverse the
    // error does not grow with x.
    if L.isSingle { return (exponent.fma(1 / Double(L.log2e), logOfSingle(sum)), total) }
    let scale = sum.binaryScale()
    let log = logOfFraction(
      fraction(SumOf<Double>(high: sum, low: 0), scale.factor), exponent: scale.k + exponent)
    return (log.high + log.low, total)
  }
}

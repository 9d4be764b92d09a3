// Entropy of a row of probabilities or logits, and Kullback-Leibler divergence of two rows, in
// float64 throughout.
//
//     entropy     = log P - (sum of p · log p) / P
//     divergence  = (sum of p · (log p - log q)) / P - (log P - log Q),
//     P = sum of p, Q = sum of q
//
// Of logits p is exp(x - max), whose logarithm is there already, and P is 1 for each element that
// is the maximum and the others' sum, so that log P has its digits where one element dominates. 0 ·
// log 0 is 0. One pass over the row, and of logits one before it for the maximum. Short rows are
// worked on side by side (DivergenceTogether.swift).

import CSupport

extension Kernels {
  /// One operand of a row: what its logarithms are counted from, and the sums so far.
  struct Distribution {
    let isLogits: Bool
    var isSpecial = false
    var maximum = 0.0
    /// Of logits how many elements are the maximum, and the others' sum.
    var ties = 0.0
    var total = 0.0
    /// A power of two that probabilities are multiplied by: their sums divide it out again.
    var scale = 1.0
    /// Whether the sum is so small that the terms' digits may have been below the smallest number,
    /// 2^-1074; times 2^800 they are not, and nothing overflows.
    var isTiny: Bool { !isLogits && total > 0 && total < 0x1p-900 }
    /// Whether the sum, or a number beyond what `logarithm` takes, may overflow; times 2^-60
    /// neither does.
    var isHuge: Bool { !isLogits && total >= 0x1p1020 }
    var wantsScale: Bool { isTiny || isHuge }
    var whole: Double { ties + total }
    /// log of the whole.
    var logTotal: Double {
      isLogits
        ? log1p(Sum.exact(ties - 1, total)).high
        : total == 1 ? 0 : total > 0 && total < .infinity ? logarithmByCall(F64(total))[0] : .nan
    }
  }

  @inline(__always)
  public static func divergenceRows<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_divergence>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    var other = smxk_row()
    withUnsafeMutablePointer(to: &other) { other in
      var index = first
      while index < first &+ count {
        let rows = Swift.min(8, first &+ count &- index)
        let isTogether = I.hasFastPaths && areTogether(job, rows)
        let left = isTogether ? divergencesTogether(job, index, rows, other, scratch) : -1
        for r in 0..<rows where left >> r & 1 != 0 {
          divergenceRow(L.self, job, index &+ r, other, scratch)
        }
        index = index &+ rows
      }
    }
  }

  @inline(never)
  static func divergenceRow<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_divergence>, _ index: Int,
    _ other: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let hasQ = job.pointee.q.x != nil
    let ofQ = smxk_q_of(job)
    let ofP = smxk_p_of(job)
    let row = row(of: scratch)
    var q = Distribution(isLogits: job.pointee.q_is_logits != 0)
    if hasQ { begin(L.self, ofQ, index, other, scratch, &q) }
    var p = Distribution(isLogits: job.pointee.p_is_logits != 0)
    begin(L.self, ofP, index, row, scratch, &p)
    let cols = Int(ofP.pointee.cols)
    var sum = 0.0
    var isAgain = false
    while true {
      var start = 0
      while start < cols {
        let length = Swift.min(chunkSize, cols &- start)
        let high = smxk_high_of(scratch).assumingMemoryBound(to: Double.self)
        let low = smxk_low_of(scratch).assumingMemoryBound(to: Double.self)
        take(L.self, ofP, row, p, start, length, high, scratch)
        if hasQ { take(L.self, ofQ, other, q, start, length, low, scratch) }
        sum += addTerms(high, hasQ ? low : nil, length, &p, &q)
        start = start &+ length
      }
      if isAgain || !(p.wantsScale || q.wantsScale) { break }
      isAgain = true
      if p.wantsScale { p.scale = p.isTiny ? 0x1p800 : 0x1p-60 }
      if q.wantsScale { q.scale = q.isTiny ? 0x1p800 : 0x1p-60 }
      (sum, p.total, q.total) = (0, 0, 0)
      (p.ties, q.ties) = (0, 0)
    }
    let normalised = sum / p.whole
    let value = hasQ ? normalised - (p.logTotal - q.logTotal) : normalised + p.logTotal
    // Rounding may lead below 0, the values never do.
    let result = p.isSpecial || q.isSpecial ? .nan : value < 0 ? 0 : value
    writeScalar(job.pointee.dtype, row.pointee.out, result)
  }

  /// Whose logarithms are taken, before anything is divided by the whole.
  struct ElementLog {
    let isLogits: Bool
    let maximum: F64

    @inline(__always) func callAsFunction(_ x: F64) -> F64 {
      isLogits ? x - maximum : I.hasFastPaths ? logarithm(x) : logarithmByCall(x)
    }
  }

  /// Sum of p · (-log p), or of p · (log p - log q), in each lane, and those of p and q.
  struct DivergenceTerms {
    var sum = F64(0)
    var totalP = F64(0)
    var totalQ = F64(0)
    var tiesP = F64(0)
    var tiesQ = F64(0)

    /// Elements x of p and y of q, if there is one.
    @inline(__always)
    mutating func add(_ x: F64, _ y: F64, hasQ: Bool, _ p: ElementLog, _ q: ElementLog) {
      let log = p(x)
      let probability = p.isLogits ? exponential(log) : x
      totalP =
        totalP + (p.isLogits ? F64.pick(x, equalTo: p.maximum, F64(0), probability) : probability)
      if p.isLogits { tiesP = tiesP + F64.pick(x, equalTo: p.maximum, F64(1), F64(0)) }
      var distance = F64(0) - log
      if hasQ {
        let logQ = q(y)
        if q.isLogits {
          totalQ = totalQ + F64.pick(y, equalTo: q.maximum, F64(0), exponential(logQ))
          tiesQ = tiesQ + F64.pick(y, equalTo: q.maximum, F64(1), F64(0))
        } else {
          // Of a negative one the logarithm tells, but not where p is 0.
          totalQ = totalQ + F64.pick(y, lessThan: F64(0), F64(.nan), y)
        }
        // Of -inf and -inf nothing is left, and p is 0 there.
        distance = log - logQ
      }
      sum = sum + F64.pick(probability, equalTo: F64(0), probability, probability * distance)
    }
  }

  /// The terms of a chunk; the totals of p and q grow by theirs.
  @inline(never)
  static func addTerms(
    _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>?, _ length: Int, _ p: inout Distribution,
    _ q: inout Distribution
  ) -> Double {
    // Order is part of the contract: lane l of eight takes elements l, l + 8, …; chunk after chunk.
    var terms = DivergenceTerms()
    let ofP = ElementLog(isLogits: p.isLogits, maximum: F64(p.maximum))
    let ofQ = ElementLog(isLogits: q.isLogits, maximum: F64(q.maximum))
    for (i, _, _) in vectors(F64.self, 0, length) {
      terms.add(
        F64(at: x + i), y.map { F64(at: $0 + i) } ?? F64(0), hasQ: y != nil, ofP, ofQ)
    }
    p.total += lanesMet(terms.totalP)
    q.total += lanesMet(terms.totalQ)
    p.ties += lanesMet(terms.tiesP)
    q.ties += lanesMet(terms.tiesQ)
    return lanesMet(terms.sum)
  }

  /// Points at the row; of logits, finds the maximum.
  @inline(never)
  static func begin<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ index: Int, _ row: UnsafeMutablePointer<smxk_row>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>, _ distribution: inout Distribution
  ) {
    beginRow(job, row, index)
    if !distribution.isLogits { return }
    visitChunks(L.self, job, row, scratch)
    distribution.maximum = row.pointee.found.high
    // A NaN that this has passed over makes the sums NaN.
    distribution.isSpecial = distribution.maximum.isInfinite
  }

  /// A chunk as float64; behind its end, of which nothing comes.
  @inline(never)
  static func take<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>,
    _ distribution: Distribution,
    _ start: Int, _ length: Int, _ to: UnsafeMutablePointer<Double>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    // A row has one axis and no mask.
    let stride = Int(job.pointee.inner![0].x)
    readNumbers(
      job.pointee.dtype, UnsafeRawPointer(row.pointee.x!) + start &* stride, stride, length, to)
    if distribution.scale != 1 { for k in 0..<length { to[k] *= distribution.scale } }
    for k in length..<(length &+ 7) & ~7 { to[k] = distribution.isLogits ? -.infinity : 0 }
  }

  /// Where fma is a call, a call of this is nothing.
  @inline(never) static func logarithmByCall(_ x: F64) -> F64 { logarithm(x) }

  /// log of any number, to about an ulp: -inf of 0, NaN below.
  @inline(__always)
  static func logarithm(_ x: F64) -> F64 {
    let tiny = F64(0x1p-1000)
    let isTiny = F64.pick(x, lessThan: tiny, F64(1), F64(0))
    let normal = F64.pick(x, lessThan: tiny, x * F64(0x1p100), x)
    // Anything will do where the result is none of its own.
    let inRange = F64.pick(normal, lessThan: F64(0x1p1020), normal, F64(1))
    let w = F64.pick(F64(0), lessThan: inRange, inRange, F64(1))
    let scale = w.binaryScale()
    let k = scale.k - isTiny * F64(100)
    let value = roundedLogOfFraction(w * scale.factor - F64(1), exponent: k)
    let ofZero = F64.pick(x, equalTo: F64(0), F64(-.infinity), value)
    // NaN too is not below 2^1020.
    let valid = F64.pick(x, lessThan: F64(0x1p1020), ofZero, F64(.nan))
    return F64.pick(x, lessThan: F64(0), F64(.nan), valid)
  }
}

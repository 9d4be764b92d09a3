// Entropies and divergences of eight rows at a time, a row in each lane.
//
// What a row needs once, its maximum, its logarithm, a division, is a chain that takes longer than
// thirty elements. So element i of eight rows becomes one vector, and the chain is that of eight.
// The operations of each row and their order are those of Divergence.swift, which takes the rows
// that want a second look: totals that may have lost digits, NaN and infinities.

import CSupport

extension Kernels.DivergenceTerms {
  @inline(__always) init(at p: UnsafePointer<Double>) {
    sum = Kernels.F64(at: p)
    totalP = Kernels.F64(at: p + 8)
    totalQ = Kernels.F64(at: p + 16)
    tiesP = Kernels.F64(at: p + 24)
    tiesQ = Kernels.F64(at: p + 32)
  }
  @inline(__always) func store(at p: UnsafeMutablePointer<Double>) {
    sum.store(at: p)
    totalP.store(at: p + 8)
    totalQ.store(at: p + 16)
    tiesP.store(at: p + 24)
    tiesQ.store(at: p + 32)
  }
  @inline(__always) mutating func add(_ other: Self) {
    sum = sum + other.sum
    totalP = totalP + other.totalP
    totalQ = totalQ + other.totalQ
    tiesP = tiesP + other.tiesP
    tiesQ = tiesQ + other.tiesQ
  }
}

extension Kernels {
  /// The longest row: two operands, and rows on their way, in scratch's `low`.
  private static var mostTogether: Int { @inline(__always) get { 128 } }

  @inline(__always)
  static func areTogether(_ job: UnsafePointer<smxk_divergence>, _ rows: Int) -> Bool {
    rows > 1 && Int(job.pointee.p.cols) <= mostTogether
  }

  /// Rows first ..< first + count; a bit for each that is left.
  @inline(never)
  static func divergencesTogether(
    _ job: UnsafePointer<smxk_divergence>, _ first: Int, _ count: Int,
    _ row: UnsafeMutablePointer<smxk_row>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int {
    let (ofP, ofQ) = (smxk_p_of(job), smxk_q_of(job))
    let cols = Int(ofP.pointee.cols)
    let hasQ = job.pointee.q.x != nil
    let x = smxk_low_of(scratch).assumingMemoryBound(to: Double.self)
    let y = x + 8 &* mostTogether
    let flat = x + 16 &* mostTogether
    let leaves = x + 24 &* mostTogether
    let p = take(ofP, isLogits: job.pointee.p_is_logits != 0, first, count, row, to: x, flat)
    let q =
      hasQ ? take(ofQ, isLogits: job.pointee.q_is_logits != 0, first, count, row, to: y, flat) : p
    for lane in 0..<8 {
      // Order is part of the contract: as in a chunk.
      var terms = DivergenceTerms()
      var i = lane
      while i < cols {
        let other = hasQ ? F64(at: y + 8 &* i) : F64(0)
        terms.add(F64(at: x + 8 &* i), other, hasQ: hasQ, p, q)
        i = i &+ 8
      }
      terms.store(at: leaves + 40 &* lane)
    }
    // As lanesMet.
    var distance = 4
    while distance > 0 {
      for lane in 0..<distance {
        var sum = DivergenceTerms(at: leaves + 40 &* lane)
        sum.add(DivergenceTerms(at: leaves + 40 &* (lane &+ distance)))
        sum.store(at: leaves + 40 &* lane)
      }
      distance = distance / 2
    }
    let terms = DivergenceTerms(at: leaves)
    let wholeP = whole(p, terms.totalP, terms.tiesP)
    let normalised = terms.sum / wholeP.sum
    var value = normalised + wholeP.log
    if hasQ { value = normalised - (wholeP.log - whole(q, terms.totalQ, terms.tiesQ).log) }
    F64.pick(value, lessThan: F64(0), F64(0), value).store(at: leaves)
    var left = 0
    for r in 0..<count {
      if leaves[r].isNaN {
        left |= 1 << r
      } else {
        find(ofP, row, first &+ r)
        writeScalar(job.pointee.dtype, row.pointee.out, leaves[r])
      }
    }
    return left
  }

  /// The sum of a distribution and its logarithm; NaN where a row by itself is to have the say.
  @inline(never)
  private static func whole(
    _ distribution: ElementLog, _ total: F64, _ ties: F64
  ) -> (sum: F64, log: F64) {
    let sum = ties + total
    if distribution.isLogits {
      let m = distribution.maximum
      let log = log1p(SumOf.exact(ties - F64(1), total)).high
      return (sum, F64.pick(m - m, equalTo: F64(0), log, F64(.nan)))
    }
    let isOne = F64.pick(total, equalTo: F64(1), F64(0), logarithm(total))
    let isSmall = F64.pick(total, lessThan: F64(0x1p1020), isOne, F64(.nan))
    return (sum, F64.pick(total, lessThan: F64(0x1p-900), F64(.nan), isSmall))
  }

  /// Where the row's x and out begin. (`locate`, which finds eight operands, took a third of the
  /// time of rows of 4.)
  @inline(__always)
  private static func find(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafeMutablePointer<smxk_row>, _ index: Int
  ) {
    if job.pointee.outer_count > 1 { return locate(job, row, index) }
    let axis = job.pointee.outer!
    row.pointee.x = (job.pointee.x! + index &* Int(axis.pointee.x)).assumingMemoryBound(
      to: CChar.self)
    row.pointee.out = job.pointee.out.map {
      ($0 + index &* Int(axis.pointee.out)).assumingMemoryBound(to: CChar.self)
    }
  }

  /// Brings rows to the lanes, element i to x + 8·i. Lanes without a row do as another one.
  @inline(never)
  private static func take(
    _ job: UnsafePointer<smxk_job>, isLogits: Bool, _ first: Int, _ count: Int,
    _ row: UnsafeMutablePointer<smxk_row>, to x: UnsafeMutablePointer<Double>,
    _ flat: UnsafeMutablePointer<Double>
  ) -> ElementLog {
    let cols = Int(job.pointee.cols)
    let inner = Int(job.pointee.inner![0].x)
    let last = job.pointee.outer![Int(job.pointee.outer_count) &- 1]
    let size = itemSize(job)
    if Int(last.x) == size && first % Int(last.count) &+ count <= Int(last.count) {
      // They lie side by side.
      locate(job, row, first)
      for i in 0..<cols {
        let p = UnsafeRawPointer(row.pointee.x!) + i &* inner
        readNumbers(job.pointee.dtype, p, size, count, x + 8 &* i)
        for r in count..<8 { x[8 &* i &+ r] = x[8 &* i] }
      }
    } else {
      let pitch = (cols &+ 7) & ~7
      for r in 0..<8 {
        if r < count { find(job, row, first &+ r) }
        readNumbers(
          job.pointee.dtype, UnsafeRawPointer(row.pointee.x!), inner, cols, flat + r &* pitch)
      }
      var i = 0
      while i < cols {
        transpose(F64.self, flat + i, pitch, x + 8 &* i, 8)
        i = i &+ 8
      }
    }
    var maximum = F64(-.infinity)
    if isLogits { for i in 0..<cols { maximum = F64.max(F64(at: x + 8 &* i), maximum) } }
    return ElementLog(isLogits: isLogits, maximum: maximum)
  }
}

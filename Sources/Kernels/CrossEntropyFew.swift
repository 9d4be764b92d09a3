// What rows of few elements ask of their classes, a row in each lane: label smoothing,
// probabilities and the weights beside them. The operations of each row and their order are those
// of `ask` (CrossEntropyTargets.swift).

import CSupport

extension Kernels {
  /// c of rows first ..< first + count, and the two sums over it, to `numbers`. Lanes without a row
  /// do as another one.
  @inline(never)
  static func askFew<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ numbers: LossNumbers<L>
  ) where L.Eight == F64 {
    typealias W = Widened<L>
    let cols = few.length
    let isClasses = job.pointee.is_classes != 0
    if !isClasses { takeTargets(few, job, first: first, count: count) }
    let target = L(at: numbers.target)
    let maximum = W(L(at: numbers.maximum))
    let smoothing = job.pointee.smoothing
    let share = smoothing / Double(cols)
    for lane in 0..<8 {
      // Order is part of the contract: lane l of eight takes elements l, l + 8, ….
      var total = W(0)
      var far = W(0)
      var i = lane
      while i < cols {
        let isTarget = L.pick(target, equalTo: L(L.Scalar(Double(i))), L(1), L(0))
        var c = isClasses ? W(isTarget) : W(at: few.asked(i))
        if smoothing != 0 { c = c * W(1 - smoothing) + W(share) }
        if job.pointee.weights != nil {
          c = W.pick(c, equalTo: W(0), W(0), c * W(weight(job, i)))
        }
        c.store(at: few.asked(i))
        total = total + c
        far = far + W.pick(c, equalTo: W(0), c, c * (maximum - W(L(at: few.x(i)))))
        i = i &+ 8
      }
      total.store(at: few.leaf(lane))
      far.store(at: few.leaf(8 &+ lane))
    }
    // As lanesMet.
    var distance = 4
    while distance > 0 {
      for lane in 0..<distance {
        for kind in 0..<2 {
          let leaf = few.leaf(8 &* kind &+ lane)
          (W(at: leaf) + W(at: leaf + 16 &* distance)).store(at: leaf)
        }
      }
      distance = distance / 2
    }
    W(at: few.leaf(0)).store(at: numbers.total)
    W(at: few.leaf(8)).store(at: numbers.far)
    // The gradient of a row's class is like that of the others.
    L(-1).store(at: numbers.target)
  }

  /// The rows' probabilities, those of class i to `asked`.
  @inline(__always)
  private static func takeTargets<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int
  ) {
    let cols = few.length
    let rows = smxk_rows_of(job)
    let axis = rows.pointee.outer!
    let step = Int(rows.pointee.inner![0].x)
    let type = job.pointee.target_dtype
    if Int(axis.pointee.x) == (Int(type) == SMX_FLOAT64 ? 8 : Int(type) == SMX_FLOAT32 ? 4 : 2) {
      // They lie side by side.
      for i in 0..<cols {
        let p = rows.pointee.x! + (first &* Int(axis.pointee.x) &+ i &* step)
        readNumbers(type, p, Int(axis.pointee.x), count, few.asked(i))
        for r in count..<L.count { few.asked(i)[r] = few.asked(i)[0] }
      }
      return
    }
    let pitch = (cols &+ 7) & ~7
    // Eight rows of float64 take the room of all rows as the lanes have them.
    let flat = UnsafeMutableRawPointer(few.flat).assumingMemoryBound(to: Double.self)
    var start = 0
    while start < L.count {
      for r in 0..<8 {
        let index = first &+ Swift.min(start &+ r, count &- 1)
        readNumbers(
          type, rows.pointee.x! + index &* Int(axis.pointee.x), step, cols, flat + r &* pitch)
      }
      var i = 0
      while i < cols {
        transpose(F64.self, flat + i, pitch, few.asked(i) + start, 16)
        i = i &+ 8
      }
      start = start &+ 8
    }
  }
}

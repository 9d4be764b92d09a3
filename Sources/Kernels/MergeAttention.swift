// Two results of attention over different keys become one.
//
// With d = lse_b - lse_a the shares are 1 / (1 + e^d) and e^d / (1 + e^d), taken from the larger
// side so that e^d is at most 1; in float64, and rounded once to the type of the rows.

import CSupport

extension Kernels {
  public static func mergeRows<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_merge>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let rows = Int(job.pointee.rows)
    let heads = Int(job.pointee.heads)
    for number in first..<first &+ count {
      let row = number % rows
      let head = number / rows % heads
      let batch = number / rows / heads
      func at(_ view: smxk_view) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(view.data!)
          + (batch &* Int(view.batch) &+ head &* Int(view.head) &+ row &* Int(view.row))
      }
      func lse(_ view: smxk_view) -> Double { Double(at(view).loadUnaligned(as: L.Scalar.self)) }
      let shares = Shares<L>(lse(job.pointee.lse_a), lse(job.pointee.lse_b))
      mergeRow(
        L.self, job, at(job.pointee.out_a), at(job.pointee.out_b), at(job.pointee.out), shares,
        scratch)
      if job.pointee.lse.data != nil {
        at(job.pointee.lse).storeBytes(of: shares.logarithm, as: L.Scalar.self)
      }
    }
  }

  /// What each side adds, and the logarithm of the sum.
  struct Shares<L: TileLanes> {
    let a: L.Scalar
    let b: L.Scalar
    let logarithm: L.Scalar

    @inline(__always) init(_ a: Double, _ b: Double) {
      let larger = a < b ? b : a
      let smaller = a < b ? a : b
      if a.isNaN || b.isNaN || larger == .infinity {
        self.a = .nan
        self.b = .nan
        logarithm = larger == .infinity && !a.isNaN && !b.isNaN ? .infinity : .nan
      } else if larger == -.infinity {
        self.a = 0
        self.b = 0
        logarithm = -.infinity
      } else {
        // e^d as 2^n · 2^rest in two steps: the product with log2(e) is rounded, and what that
        // loses is put back.
        let d = smaller - larger
        let y = d * 0x1.71547652b82fep0
        let lost = (-y).addingProduct(d, 0x1.71547652b82fep0).addingProduct(
          d, 0x1.777d0ffda0d24p-56)
        let power = F64(y).exp2()[0]
        // 1 + lost·ln2 is 2^lost to the last bit; with both infinite there is nothing to mend.
        let small = d > -1000 ? power.addingProduct(power, lost * 0x1.62e42fefa39efp-1) : power
        let total = 1 + small
        let large = 1 / total
        self.a = L.Scalar(a < b ? small / total : large)
        self.b = L.Scalar(a < b ? large : small / total)
        let log = log1p(SumOf<Double>(high: small, low: 0))
        logarithm = L.Scalar(small == 0 ? larger : larger + (log.high + log.low))
      }
    }
  }

  @inline(never)
  private static func mergeRow<L: TileLanes>(
    _: L.Type, _ job: UnsafePointer<smxk_merge>, _ a: UnsafeRawPointer, _ b: UnsafeRawPointer,
    _ out: UnsafeMutableRawPointer, _ shares: Shares<L>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let dtype = job.pointee.dtype
    let room = smxk_high_of(scratch).assumingMemoryBound(to: L.Scalar.self)
    let width = 256
    let (ofA, ofB) = (L(shares.a), L(shares.b))
    var column = 0
    while column < Int(job.pointee.columns) {
      let count = Swift.min(width, Int(job.pointee.columns) &- column)
      func place(
        _ p: UnsafeRawPointer, _ view: smxk_view
      ) -> UnsafeRawPointer {
        p + column &* Int(view.column)
      }
      readRow(
        L.self, dtype, place(a, job.pointee.out_a), Int(job.pointee.out_a.column), room, count)
      readRow(
        L.self, dtype, place(b, job.pointee.out_b), Int(job.pointee.out_b.column), room + width,
        count)
      var i = 0
      while i < count {
        // A side without a share is not touched, whatever it holds.
        let x = L.pick(ofA, equalTo: L(0), L(0), L(at: room + i) * ofA)
        let sum = L.pick(ofB, equalTo: L(0), x, L(at: room + (width &+ i)).fma(ofB, x))
        L.pick(sum, equalTo: sum, sum, L(.nan)).store(at: room + i)
        i = i &+ L.count
      }
      write(
        L.self, dtype,
        UnsafeMutableRawPointer(mutating: place(UnsafeRawPointer(out), job.pointee.out)),
        Int(job.pointee.out.column), room, count)
      column = column &+ width
    }
  }
}

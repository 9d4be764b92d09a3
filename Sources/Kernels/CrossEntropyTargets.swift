// What a row asks of its classes: c_k, and the two sums over them that the loss needs.
//
//     c_k = weight_k · ((1 - smoothing)·y_k + smoothing/K)
//
// y is 1 at the row's class or the row of probabilities; K counts the visible classes, and a hidden
// one has no share of the smoothing. 0 · log 0 is 0, so a class that nothing is asked of adds
// nothing, whatever its logit.

import CSupport

extension Kernels {
  struct Asked {
    /// Sum of c_k.
    var total = 0.0
    /// Sum of c_k · (maximum - x_k).
    var far = 0.0

    @inline(__always) func loss(
      _ state: RowState, _ job: UnsafePointer<smxk_cross_entropy>
    ) -> Double {
      let loss = total * state.relative + far / job.pointee.temperature
      return job.pointee.z_loss == 0 ? loss : loss + job.pointee.z_loss * (state.lse * state.lse)
    }
  }

  /// Whether more than one class has a c_k.
  @inline(__always) static func asks(_ job: UnsafePointer<smxk_cross_entropy>) -> Bool {
    job.pointee.is_classes == 0 || job.pointee.smoothing != 0
  }

  @inline(__always)
  static func weight(_ job: UnsafePointer<smxk_cross_entropy>, _ class: Int) -> Double {
    guard let weights = job.pointee.weights else { return 1 }
    return readScalar(job.pointee.rows.dtype, weights + `class` &* Int(job.pointee.weights_stride))
  }

  /// Whether a class of the row is hidden.
  @inline(__always)
  static func isHidden(
    _ job: UnsafePointer<smxk_job>, _ row: UnsafePointer<smxk_row>, _ class: Int
  ) -> Bool {
    guard let mask = row.pointee.mask else { return false }
    return mask[`class` &* Int(job.pointee.inner![0].mask)] == 0
  }

  /// Of a row with one class: the same sums as `ask` makes, all other terms being 0.
  @inline(__always)
  static func askOne(
    _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeRawPointer, _ target: Int,
    isHidden: Bool, maximum: Double
  ) -> Asked {
    let logits = smxk_logits_of(job)
    let weight = weight(job, target)
    let x =
      isHidden
      ? -.infinity
      : readScalar(logits.pointee.dtype, row + target &* Int(logits.pointee.inner![0].x))
    return Asked(total: weight, far: weight == 0 ? 0 : weight * (maximum - x))
  }

  /// Of any row: one pass over its chunks.
  @inline(never)
  static func ask<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafePointer<smxk_row>,
    _ place: UnsafePointer<smxk_row>, _ target: Int?, _ state: RowState,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Asked where L.Eight == F64 {
    let logits = smxk_logits_of(job)
    let cols = Int(logits.pointee.cols)
    let isDirect = isDirect(logits)
    let c = smxk_low_of(scratch).assumingMemoryBound(to: Double.self)
    let maximum = F64(state.maximum)
    var asked = Asked()
    var start = 0
    while start < cols {
      let length = Swift.min(chunkSize, cols &- start)
      let gathered = elements(L.self, length, scratch)
      if !isDirect { _ = gather(L.self, logits, row, gathered, start, scratch) }
      let x =
        isDirect
        ? UnsafeRawPointer(row.pointee.x!) + start &* MemoryLayout<L.Scalar>.stride
        : UnsafeRawPointer(gathered.high)
      fillAsked(L.self, job, row, place, target, state, start, length, c)
      // Order is part of the contract: lane l of eight takes elements l, l + 8, …; chunk after
      // chunk.
      var total = F64(0)
      var far = F64(0)
      for (i, first, last) in vectors(L.self, 0, length) {
        let x = Own<L>.load(x, i, first, last, fill: 0)
        let v = F64(at: c + i)
        total = total + v
        far = far + F64.pick(v, equalTo: F64(0), v, v * (maximum - x.eight))
        if L.isSingle && last > 8 {
          let v = F64(at: c + (i &+ 8))
          total = total + v
          far = far + F64.pick(v, equalTo: F64(0), v, v * (maximum - x.upperEight))
        }
      }
      asked.total += lanesMet(total)
      asked.far += lanesMet(far)
      start = start &+ length
    }
    return asked
  }

  /// Lanes l and l + 4, l and l + 2, and the last two. Infinities stay what they are.
  @inline(__always) static func lanesMet(_ v: F64) -> Double {
    let four = v + v.turned(by: 4)
    let two = four + four.turned(by: 2)
    return (two + two.turned(by: 1))[0]
  }

  /// c of the classes start ..< start + length, and 0 up to a whole vector of either type.
  @inline(never)
  static func fillAsked<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafePointer<smxk_row>,
    _ place: UnsafePointer<smxk_row>, _ target: Int?, _ state: RowState, _ start: Int,
    _ length: Int,
    _ c: UnsafeMutablePointer<Double>
  ) {
    if let target {
      for (k, _, _) in vectors(F64.self, 0, length) { F64(0).store(at: c + k) }
      if target >= start && target < start &+ length { c[target &- start] = 1 }
    } else {
      let stride = Int(job.pointee.rows.inner![0].x)
      readNumbers(
        job.pointee.target_dtype, UnsafeRawPointer(place.pointee.x!) + start &* stride, stride,
        length, c)
      // Whole vectors are computed with.
      for k in length..<(length &+ 7) & ~7 { c[k] = 0 }
    }
    let smoothing = job.pointee.smoothing
    if smoothing != 0 {
      let share = smoothing / Double(Swift.max(state.visible, 1))
      if row.pointee.mask == nil {
        for (k, _, _) in vectors(F64.self, 0, length) {
          (F64(at: c + k) * F64(1 - smoothing) + F64(share)).store(at: c + k)
        }
      } else {
        for k in 0..<length {
          let isHidden = isHidden(smxk_logits_of(job), row, start &+ k)
          c[k] = c[k] * (1 - smoothing) + (isHidden ? 0 : share)
        }
      }
    }
    if job.pointee.weights != nil { scaleAsked(job, start, length, c) }
    for k in length..<(length &+ 15) & ~15 { c[k] = 0 }
  }

  /// c times the weights of the classes start ..< start + length; 0 stays 0.
  @inline(never)
  static func scaleAsked(
    _ job: UnsafePointer<smxk_cross_entropy>, _ start: Int, _ length: Int,
    _ c: UnsafeMutablePointer<Double>
  ) {
    let stride = Int(job.pointee.weights_stride)
    var room = InlineArray<64, Double>(repeating: 0)
    withUnsafeMutablePointer(to: &room) { room in
      let weights = UnsafeMutableRawPointer(room).assumingMemoryBound(to: Double.self)
      var first = 0
      while first < length {
        let count = Swift.min(weightsAtOnce, length &- first)
        let p = job.pointee.weights! + (start &+ first) &* stride
        readNumbers(job.pointee.rows.dtype, UnsafeRawPointer(p), stride, count, weights)
        for (k, _, _) in vectors(F64.self, 0, count) {
          let v = F64(at: c + (first &+ k))
          F64.pick(v, equalTo: F64(0), F64(0), v * F64(at: weights + k)).store(at: c + (first &+ k))
        }
        first = first &+ count
      }
    }
  }
}

// Rows of few elements that are gathered, or have temperatures: into the lanes all the same
// (FewElements.swift).
//
// Masks have acted when a row has been gathered: what they hide is -inf. Rows of which nothing is
// left, or which their lanes' form cannot do, go through the stages, as does a row whose
// temperature is 1 among others. With AVX-512 only, whose shuffles turn squares of rows.
//
// One thread (Xeon), ns a row of float32 softmax of 16 and of 64 elements, through the stages
// before and now: one temperature 125, 24 and 156, 66; mask 155, 47 and 168, 83; bias 127, 21 and
// 159, 68; of float64 with a temperature 136, 44 (16).

import CSupport

extension Kernels {
  /// Whether rows of a job that is not plain are worked on in lanes. A bias together with a
  /// temperature is left to the stages.
  @inline(__always)
  static func gathersFew<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_job>) -> Bool {
    let hasBoth = job.pointee.bias != nil && job.pointee.temperature != nil
    let cols = Int(job.pointee.cols)
    return I.hasWideTiles && !hasBoth && cols >= 1 && cols <= FewElements<L>.most
      && job.pointee.operation <= SMXK_LOGSUMEXP
      && job.pointee.weights == nil && job.pointee.factor == nil && job.pointee.sign == nil
  }

  /// Whether its rows follow one another in memory, a bias likewise, and so do their results.
  @inline(__always)
  static func isDense(_ job: UnsafePointer<smxk_job>) -> Bool {
    let size = itemSize(job)
    let inner = job.pointee.inner![0]
    let outer = job.pointee.outer![0]
    let isSum = job.pointee.operation == SMXK_LOGSUMEXP
    let hasOwnBias =
      job.pointee.bias_dtype == job.pointee.dtype && size >= 4 && Int(inner.bias) == size
      && outer.bias == outer.x
    return job.pointee.mask == nil && job.pointee.structure == nil
      && (job.pointee.bias == nil || hasOwnBias)
      && job.pointee.outer_count == 1 && job.pointee.inner_count == 1 && Int(inner.x) == size
      && (isSum || Int(inner.out) == size) && Int(outer.x) == Int(job.pointee.cols) &* size
      && hasFewResults(job)
  }

  /// Rows first ..< first + count of such a job.
  @inline(never)
  static func fewGathered<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let cols = Int(job.pointee.cols)
    let results = job.pointee.operation == SMXK_LOGSUMEXP ? 1 : cols
    let few = FewElements<L>(length: cols, scratch)
    few.clearBeyond()
    let isDense = isDense(job)
    let hasBias = job.pointee.bias != nil
    let end = first &+ count
    var row = first
    while row < end {
      let rows = Swift.min(L.count, end &- row)
      // A bit for each row that its temperature sends through the stages.
      var unfit = 0
      if isDense {
        if job.pointee.temperature != nil { unfit = enterTemperatures(few, job, row, rows) }
        turn(job, row, rows, of: end, to: few)
        if hasBias { addBias(few, job, row, rows) }
      } else {
        unfit = gatherFew(few, job, row, rows, scratch)
      }
      let isDone: Bool
      if hasBias {
        isDone = finishFew(No.self, Yes.self, few, job.pointee.operation)
      } else if unfit != -1 && job.pointee.temperature != nil {
        isDone = finishFew(Yes.self, No.self, few, job.pointee.operation)
      } else {
        unfit = 0
        isDone = finishFew(No.self, No.self, few, job.pointee.operation)
      }
      let isWhole = isDone && unfit == 0
      if isDense && isWhole {
        putRows(few, job, rows, results, job.pointee.out! + row &* results &* itemSize(job))
      } else {
        turnBack(few, rows, results, to: few.flat)
        for r in 0..<rows {
          if !isWhole && (few.special[r] != 0 || unfit >> r & 1 != 0) {
            rowInStages(L.self, job, row &+ r, scratch)
          } else {
            putGathered(few, job, row &+ r, r, isDense, scratch)
          }
        }
      }
      row = row &+ rows
    }
  }

  /// Brings `rows` rows to the lanes; returns what `enterTemperatures` does.
  @inline(__always)
  static func gatherFew<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ first: Int, _ rows: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int {
    let cols = few.length
    let place = row(of: scratch)
    let hasBias = job.pointee.bias != nil
    for r in 0..<rows {
      beginRow(job, place, first &+ r)
      let high = few.flat + r &* cols
      let low = hasBias ? few.flatLow + r &* cols : nil
      let from = Swift.min(Swift.max(Int(place.pointee.lower), 0), cols)
      let to = Swift.max(from, Swift.min(Int(place.pointee.upper), cols))
      if from > 0 || to < cols {
        fill(L.self, high, 0, cols, -.infinity)
        if let low { fill(L.self, low, 0, cols, 0) }
      }
      let elements = Elements<L>(high: high, low: low, from: from, to: to)
      _ = gather(L.self, job, place, elements, 0, scratch)
      few.temperature[r] = place.pointee.temperature
      few.places[r] = UnsafeMutableRawPointer(place.pointee.out!)
    }
    clear(few, few.flat, from: rows)
    turn(few, few.flat, rows, to: few.x(0))
    if hasBias {
      clear(few, few.flatLow, from: rows)
      turn(few, few.flatLow, rows, to: few.low(0))
    }
    return job.pointee.temperature == nil ? 0 : enterFactors(few, rows)
  }

  /// Makes rows in lanes pairs, with a bias that lies densely.
  @inline(__always)
  static func addBias<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ first: Int, _ rows: Int
  ) {
    let bias = job.pointee.bias! + first &* few.length &* MemoryLayout<L.Scalar>.stride
    let from = bias.assumingMemoryBound(to: L.Scalar.self)
    for (i, first, last) in vectors(L.self, 0, rows &* few.length) {
      store(load(from + i, first, last, fill: 0) as L, few.flatLow + i, first, last)
    }
    clear(few, few.flatLow, from: rows)
    turn(few, few.flatLow, rows, to: few.low(0))
    for i in 0..<few.length {
      let sum = exactSum(L(at: few.x(i)), L(at: few.low(i)))
      sum.high.store(at: few.x(i))
      L.pick(sum.low, equalTo: sum.low, sum.low, L(0)).store(at: few.low(i))
    }
  }

  /// Temperatures of rows that lie densely.
  @inline(__always)
  static func enterTemperatures<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ first: Int, _ rows: Int
  ) -> Int {
    let step = Int(job.pointee.outer!.pointee.temperature)
    for r in 0..<rows {
      few.temperature[r] =
        step == 0 && r > 0
        ? few.temperature[0]
        : readScalar(
          job.pointee.temperature_dtype, job.pointee.temperature! + (first &+ r) &* step)
    }
    return enterFactors(few, rows)
  }

  /// The factors of temperatures. Returns a bit for each row whose form is not the scaled one, -1
  /// where all are 1.
  @inline(never)
  static func enterFactors<L: Lanes>(_ few: FewElements<L>, _ rows: Int) -> Int {
    var unfit = 0
    var ones = 0
    var known = Double.nan
    var factors = ScaledExp<L>.factors(1)
    for r in 0..<L.count {
      var temperature = r < rows ? few.temperature[r] : 1
      if temperature == 1 { ones = ones &+ 1 }
      if temperature == 1 || form(L.self, temperature) != SMXK_SCALED {
        if r < rows { unfit |= 1 << r }
        temperature = 1
      }
      if temperature != known { factors = ScaledExp<L>.factors(temperature) }
      known = temperature
      few.temperature[r] = temperature
      few.factor(0)[r] = factors.before
      few.factor(1)[r] = factors.after
      few.factor(2)[r] = factors.inverseHigh
      few.factor(3)[r] = factors.inverseLow
    }
    return ones == L.count ? -1 : unfit
  }

  /// The results of row `index`, in lane r, from `flat`.
  @inline(__always)
  static func putGathered<L: Lanes>(
    _ few: FewElements<L>, _ job: UnsafePointer<smxk_job>, _ index: Int, _ r: Int,
    _ isDense: Bool, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) {
    let isSum = job.pointee.operation == SMXK_LOGSUMEXP
    let step = Int(job.pointee.outer![0].out)
    let out = isDense ? job.pointee.out! + index &* step : few.places[r]
    let place = out.assumingMemoryBound(to: CChar.self)
    if isSum {
      writeScalar(job.pointee.dtype, place, Double(few.flat[r]))
    } else {
      let row = row(of: scratch)
      row.pointee.out = place
      scatter(L.self, job, row, few.flat + r &* few.length, 0, few.length)
    }
  }
}

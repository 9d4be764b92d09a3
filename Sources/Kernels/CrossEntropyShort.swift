// Cross-entropy of short rows: the logarithms of eight rows side by side.
//
// The logarithm of a sum is a chain of divisions and products that mostly waits for itself. So a few rows are summed first,
// and one chain gives all their logarithms, a lane a row (EightRows.swift). The operations of each row and their order are those
// of `state`, which takes the rows that want more. (One thread, side by side with one row at a time: 60000 × 10 25 % less time,
// 4096 × 128 27 %.)

import CSupport

extension Kernels {
  /// How many rows take their logarithms together; 1 where `state` takes each.
  @inline(__always)
  static func rowsTogether<L: Lanes>(_: L.Type, _ job: UnsafePointer<smxk_cross_entropy>) -> Int {
    let cols = Int(smxk_logits_of(job).pointee.cols)
    if job.pointee.is_log != 0 || job.pointee.temperature != 1 || cols == 0 { return 1 }
    // The gradient finds its rows in the first-level cache.
    return Swift.max(1, Swift.min(8, 16384 / (cols &* MemoryLayout<L.Scalar>.stride)))
  }

  /// What `state` is of rows first ..< first + count, at most eight and each of one chunk; .special where it has to be asked, .rough
  /// where the row's stages are.
  @inline(never)
  static func findStates<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ states: UnsafeMutablePointer<RowState>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let logits = smxk_logits_of(job)
    let row = row(of: scratch)
    let numbers = EightRows<L>(memory: smxk_low_of(scratch))
    let cols = Int(logits.pointee.cols)
    // With one axis of rows the next one's maximum is found beside this one's sum.
    let step = logits.pointee.outer_count == 1 ? Int(logits.pointee.outer![0].x) : 0
    var known = L.Scalar.nan
    // Lanes without a row do as the last one.
    for r in 0..<8 {
      let from = Swift.min(r, count &- 1)
      if r == from {
        beginRow(logits, row, first &+ r)
        states[r] = RowState(kind: .special)
        let chunk = sumChunk(
          L.self, logits, row, 0, cols, scratch, &states[r].visible, &known,
          next: step != 0 && r &+ 1 < count ? cols : 0, distance: step)
        states[r].maximum = chunk.maximum
        var sum = Sum(high: 0, low: 0)
        sum.add(chunk.sum)
        // No number: a row that the plain form cannot do.
        numbers.setSum(r, chunk.maximum.magnitude < Double(L.plainLimit) ? sum : Sum(high: .nan, low: 0))
      } else {
        numbers.setSum(r, Sum(high: numbers.sums[from], low: numbers.sums[8 &+ from]))
      }
      numbers.maximum[r] = L.Scalar(states[from].maximum)
    }
    let relative = logOfOthers(maximum: L(at: numbers.maximum), numbers.sum) { $0.eight }
    for r in 0..<count {
      let log = Sum(high: relative.high[r], low: relative.low[r])
      states[r].relative = log.high
      states[r].lse = LogSum<Double>.absolute(Sum(high: states[r].maximum, low: 0), log)
      if states[r].visible > 0 && !log.high.isNaN {
        states[r].kind = isRough(maximum: states[r].maximum, log.high, states[r].lse) ? .rough : .finite
      }
    }
  }

  /// Of a row that `findStates` has found rough.
  @inline(__always)
  static func preciseState<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, _ row: UnsafeMutablePointer<smxk_row>,
    _ known: UnsafePointer<RowState>, _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> RowState {
    row.pointee.maximum = known.pointee.maximum
    return stateInStages(
      L.self, smxk_logits_of(job), row, from: SMXK_SECOND_MAXIMUM, visible: known.pointee.visible, scratch)
  }
}

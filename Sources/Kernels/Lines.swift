// What attention of few queries asks memory for before its turn (FewQueries.swift).

import CSupport

extension Kernels {
  /// Lines of a block's rows that will be needed, in four quarters of the rows side by side.
  ///
  /// One core's own requests, one after the other, bring 10 to 13 GB/s; in several places at once
  /// the processor's prefetching, which stays within a page, runs ahead in each. Memory should be
  /// busy all the time: the scores ask for the block's values, the values for the next block's
  /// keys. (32 heads on 8 of keys, float32, side by side: 8 % less time than with both asked for by
  /// the scores.)
  struct Lines {
    private var row: UnsafeRawPointer
    private var column = 0
    private let stride: Int
    private let columns: Int
    private let quarter: Int
    private var rest: Int

    /// `rows` rows of `bytes` bytes.
    @inline(__always) init(_ left: TileLeft, rows: Int, bytes: Int) {
      row = left.base
      stride = left.stride
      columns = bytes / 64
      quarter = rows / 4 &* stride
      rest = rows / 4 &* columns
    }

    /// How many to ask for at each of so many times.
    @inline(__always) func share(of times: Int) -> Int { (rest &+ times &- 1) / times }

    /// The next lines of each quarter.
    @inline(__always) mutating func ask(_ count: Int) {
      for _ in 0..<Swift.min(count, rest) {
        for q in 0..<4 { I.prefetchAhead(row + (q &* quarter &+ column &* 64)) }
        column = column &+ 1
        if column == columns {
          column = 0
          row += stride
        }
      }
      rest = Swift.max(rest &- count, 0)
    }
  }
}

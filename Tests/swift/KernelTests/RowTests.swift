// Whole rows through the table of kernels, as the ABI calls them: against a slow reference, and in
// pieces.

import CSupport
import CSwiftmax
import Foundation
import Testing

/// A job over contiguous rows; the pointers live as long as `body` runs.
func withJob<T>(
  _ operation: Int, _ x: [T], _ out: UnsafeMutablePointer<T>, rows: Int,
  _ body: (UnsafePointer<smxk_job>) -> Void
) {
  let size = Int64(MemoryLayout<T>.size)
  let cols = x.count / rows
  x.withUnsafeBufferPointer { x in
    var outer = smxk_axis()
    outer.count = Int64(rows)
    outer.x = Int64(cols) * size
    outer.out = operation == SMXK_LOGSUMEXP ? size : outer.x
    var inner = smxk_axis()
    inner.count = Int64(cols)
    inner.x = size
    inner.out = size
    withUnsafePointer(to: &outer) { outer in
      withUnsafePointer(to: &inner) { inner in
        var job = smxk_job()
        job.operation = operation
        job.dtype = smx_dtype(T.self == Float.self ? SMX_FLOAT32 : SMX_FLOAT64)
        job.direct = SMXK_DIRECT_PLAIN
        job.rows = Int64(rows)
        job.cols = Int64(cols)
        job.x = UnsafeRawPointer(x.baseAddress)
        job.out = UnsafeMutableRawPointer(out)
        job.outer = outer
        job.inner = inner
        job.outer_count = 1
        job.inner_count = 1
        withUnsafePointer(to: &job, body)
      }
    }
  }
}

func withScratch(_ body: (UnsafeMutablePointer<smxk_scratch>) -> Void) {
  let scratch = UnsafeMutablePointer<smxk_scratch>.allocate(capacity: 1)
  defer { scratch.deallocate() }
  body(scratch)
}

/// All rows in one call.
func results<T: BinaryFloatingPoint>(
  _ kernels: smxk_kernels, _ operation: Int, _ x: [T], rows: Int
) -> [T] {
  let count = operation == SMXK_LOGSUMEXP ? rows : x.count
  return [T](unsafeUninitializedCapacity: count) { out, initialized in
    initialized = count
    withJob(operation, x, out.baseAddress!, rows: rows) { job in
      withScratch { scratch in
        let run = T.self == Float.self ? kernels.rows_f32 : kernels.rows_f64
        run(job, 0, Int64(rows), scratch)
      }
    }
  }
}

/// One row stage by stage, its chunks visited in the order that `permute` gives.
func resultsInPieces<T: BinaryFloatingPoint>(
  _ kernels: smxk_kernels, _ operation: Int, _ x: [T], _ permute: ([Int]) -> [Int]
) -> [T] {
  let count = operation == SMXK_LOGSUMEXP ? 1 : x.count
  return [T](unsafeUninitializedCapacity: count) { out, initialized in
    initialized = count
    withJob(operation, x, out.baseAddress!, rows: 1) { job in
      withScratch { scratch in
        let chunk = T.self == Float.self ? kernels.chunk_f32 : kernels.chunk_f64
        let advance = T.self == Float.self ? kernels.advance_f32 : kernels.advance_f64
        let row = UnsafeMutablePointer<smxk_row>.allocate(capacity: 1)
        defer { row.deallocate() }
        kernels.begin_row(job, row, 0)
        let chunks = (x.count + Int(SMXK_CHUNK) - 1) / Int(SMXK_CHUNK)
        var partials = [smxk_partial](repeating: smxk_partial(), count: chunks)
        while row.pointee.stage != SMXK_DONE {
          for i in permute(Array(0..<chunks)) {
            partials[i] = smxk_partial(high: -.infinity, low: 0, count: 0)
            chunk(job, row, Int64(i), scratch, &partials[i])
          }
          for i in 0..<chunks { kernels.absorb(row, &partials[i]) }
          advance(job, row)
        }
      }
    }
  }
}

/// The bits of a row's sum, chunk by chunk and absorbed, the row lying `place` elements into a line
/// of memory.
func sums<T: BinaryFloatingPoint>(_ kernels: smxk_kernels, _ x: [T], place: Int) -> [UInt64] {
  var found: [UInt64] = []
  let memory = UnsafeMutableRawPointer.allocate(
    byteCount: x.count * MemoryLayout<T>.size + 128, alignment: 64)
  defer { memory.deallocate() }
  let moved = memory.assumingMemoryBound(to: T.self) + place
  for i in x.indices { moved[i] = x[i] }
  var out = [T](repeating: 0, count: x.count)
  withJob(SMXK_LOG_SOFTMAX, x, &out, rows: 1) { given in
    var job = given.pointee
    job.x = UnsafeRawPointer(moved)
    withScratch { scratch in
      let chunk = T.self == Float.self ? kernels.chunk_f32 : kernels.chunk_f64
      let advance = T.self == Float.self ? kernels.advance_f32 : kernels.advance_f64
      let row = UnsafeMutablePointer<smxk_row>.allocate(capacity: 1)
      defer { row.deallocate() }
      kernels.begin_row(&job, row, 0)
      for _ in 0..<2 {
        found = []
        for i in 0..<(x.count + Int(SMXK_CHUNK) - 1) / Int(SMXK_CHUNK) {
          var partial = smxk_partial(high: -.infinity, low: 0, count: 0)
          chunk(&job, row, Int64(i), scratch, &partial)
          found += [partial.high.bitPattern, partial.low.bitPattern]
          kernels.absorb(row, &partial)
        }
        found += [row.pointee.found.high.bitPattern, row.pointee.found.low.bitPattern]
        advance(&job, row)
      }
    }
  }
  return found
}

/// One row from its definition.
func reference(_ operation: Int, _ x: [Float80]) -> [Float80] {
  let maximum = x.max()!
  let terms = x.map { Foundation.exp($0 - maximum) }
  // The maximum stands apart, so that a small sum beside it keeps its digits.
  let rest = zip(x, terms).filter { $0.0 < maximum }.reduce(0) { $0 + $1.1 }
  let ties = Float80(x.filter { $0 == maximum }.count)
  let logSum = Foundation.log1p(rest + (ties - 1))
  switch operation {
  case SMXK_SOFTMAX: return terms.map { $0 / (rest + ties) }
  case SMXK_LOG_SOFTMAX: return x.map { ($0 - maximum) - logSum }
  default: return [maximum + logSum]
  }
}

@Suite struct RowTests {
  static let operations = [SMXK_SOFTMAX, SMXK_LOG_SOFTMAX, SMXK_LOGSUMEXP]

  static func row<T: BinaryFloatingPoint>(
    _ count: Int, spread: T, seed: UInt64
  ) -> [T] where T.RawSignificand: FixedWidthInteger {
    var generator = SplitMix64(seed: seed)
    return (0..<count).map { _ in T.random(in: -spread...spread, using: &generator) }
  }

  /// Not the results alone, which hide the last bits of a sum: the sum itself, on every instruction
  /// set, wherever the row begins.
  @Test(arguments: instructionSets) func sumsAreTheSameAtEveryPlaceInALine(name: String) {
    guard let kernels = table(name), let oldest = table("v2") else { return }
    for count in [255, 256, 300, 1031, 4096, 9001] {
      let floats: [Float] = Self.row(count, spread: 8, seed: 11)
      let doubles: [Double] = Self.row(count, spread: 8, seed: 12)
      let ofFloats = sums(oldest, floats, place: 0)
      let ofDoubles = sums(oldest, doubles, place: 0)
      for place in 0..<16 {
        #expect(sums(kernels, floats, place: place) == ofFloats, "\(count) float32, place \(place)")
        #expect(
          sums(kernels, doubles, place: place) == ofDoubles, "\(count) float64, place \(place)")
      }
    }
  }

  /// Units in the last place of the dtype; logsumexp in those of the larger of result and maximum.
  static func check<T: BinaryFloatingPoint>(_ operation: Int, _ x: [T], _ out: [T], bound: T) {
    let wide = x.map { Float80($0) }
    let exact = reference(operation, wide)
    var worst: (error: Float80, index: Int) = (0, 0)
    for i in 0..<out.count {
      let scale = operation == SMXK_LOGSUMEXP ? max(abs(exact[i]), abs(wide.max()!)) : abs(exact[i])
      if T(scale) < T.leastNormalMagnitude { continue }
      let error = abs(Float80(out[i]) - exact[i]) / Float80(T(scale).ulp)
      if !(error <= worst.error) { worst = (error, i) }
    }
    let (found, expected) = (out[worst.index], exact[worst.index])
    #expect(
      worst.error <= Float80(bound),
      "operation \(operation), index \(worst.index) of \(x.count): \(found), exact \(expected)")
  }

  /// The bound of swiftmax.h: two units, one for logsumexp.
  @Test(arguments: instructionSets, [1, 2, 3, 15, 16, 17, 100, 1001, 4097])
  func areAccurate(isa: String, count: Int) throws {
    guard let kernels = table(isa) else { return }
    for operation in Self.operations {
      let bound = operation == SMXK_LOGSUMEXP ? 1.0 : 2.0
      for spread in [1.0, 20, 80] {
        let float: [Float] = Self.row(count, spread: Float(spread), seed: UInt64(count))
        let floats = results(kernels, operation, float, rows: 1)
        Self.check(operation, float, floats, bound: Float(bound))
        let double: [Double] = Self.row(count, spread: spread, seed: UInt64(count))
        let doubles = results(kernels, operation, double, rows: 1)
        Self.check(operation, double, doubles, bound: bound)
      }
    }
  }

  @Test func instructionSetsAgree() {
    let tables = instructionSets.compactMap(table)
    for operation in Self.operations {
      for count in [1, 7, 31, 333, 5000] {
        let x: [Float] = Self.row(3 * count, spread: 9, seed: UInt64(count))
        let first = results(tables[0], operation, x, rows: 3)
        for other in tables.dropFirst() { #expect(results(other, operation, x, rows: 3) == first) }
      }
    }
  }

  /// Chunks in any order give what the row gives as a whole.
  @Test(arguments: [4096, 4097, 12288, 20001])
  func chunksInAnyOrder(count: Int) {
    let kernels = table("v2")!
    let float: [Float] = Self.row(count, spread: 8, seed: 3)
    let double: [Double] = Self.row(count, spread: 8, seed: 4)
    let orders: [([Int]) -> [Int]] = [
      { $0 }, { $0.reversed() }, { $0.filter { $0 % 2 == 1 } + $0.filter { $0 % 2 == 0 } },
    ]
    for operation in Self.operations {
      let wholeFloat = results(kernels, operation, float, rows: 1)
      let wholeDouble = results(kernels, operation, double, rows: 1)
      for order in orders {
        #expect(resultsInPieces(kernels, operation, float, order) == wholeFloat)
        #expect(resultsInPieces(kernels, operation, double, order) == wholeDouble)
      }
    }
  }

  /// A row has the same results wherever it stands in a batch.
  @Test func rowsDoNotDependOnOneAnother() {
    let kernels = table("v2")!
    let rows: [[Float]] = (0..<5).map { Self.row(77, spread: 6, seed: UInt64($0)) }
    for operation in Self.operations {
      let together = results(kernels, operation, rows.flatMap { $0 }, rows: 5)
      let alone = rows.flatMap { results(kernels, operation, $0, rows: 1) }
      #expect(together == alone)
    }
  }

  @Test func dominantElementKeepsItsLogarithm() {
    let kernels = table("v2")!
    let log = results(kernels, SMXK_LOG_SOFTMAX, [0, -20] as [Float], rows: 1)
    #expect(log[0] == -2.0611537e-09)
    #expect(results(kernels, SMXK_LOGSUMEXP, [0, -20] as [Float], rows: 1) == [2.0611537e-09])
  }
}

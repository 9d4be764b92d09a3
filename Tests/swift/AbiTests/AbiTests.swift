// The C ABI from Swift, through the header's own module and the shared library that everyone loads.

import CSwiftmax
import Foundation
import Testing

@Suite struct AbiTests {
  @Test func textbookRow() {
    let x: [Float] = [2, 1, 0]
    var out = [Float](repeating: 0, count: 3)
    #expect(smx_softmax_f32(x, &out, 1, 3) == SMX_OK)
    for (value, expected) in zip(out, [0.665241, 0.244728, 0.090031] as [Float]) {
      #expect(abs(value - expected) < 1e-6)
    }
  }

  @Test func everyTypedCallOfDoubleAgreesWithItsDefinition() {
    let x: [Double] = [1000, 1001, 999]
    let sum = x.reduce(0) { $0 + exp($1 - 1001) }
    var out = [Double](repeating: 0, count: 3)
    #expect(smx_softmax_f64(x, &out, 1, 3) == SMX_OK)
    for (p, value) in zip(out, x) { #expect(abs(p - exp(value - 1001) / sum) < 1e-15) }
    #expect(smx_log_softmax_f64(x, &out, 1, 3) == SMX_OK)
    for (p, value) in zip(out, x) { #expect(abs(p - (value - 1001 - log(sum))) < 1e-15) }
    #expect(smx_logsumexp_f64(x, &out, 1, 3) == SMX_OK)
    #expect(abs(out[0] - (1001 + log(sum))) < 1e-12)
  }

  @Test func rowsAndAxesAgree() {
    // The columns of a matrix and the rows of its transpose.
    let matrix = (0..<12).map { Float($0 * $0 % 7) }
    let transposed = (0..<12).map { matrix[$0 % 3 * 4 + $0 / 3] }
    let arena = Arena()
    let x = arena.tensor(Dense(SMX_FLOAT32, [3, 4]) { Double(matrix[$0]) })
    let out = arena.tensor(Dense(SMX_FLOAT32, [3, 4]) { _ in 0 })
    var options = smx_softmax_options()
    options.size = MemoryLayout<smx_softmax_options>.size
    options.axes = UnsafePointer(arena.copy([Int32(0)]))
    options.axis_count = 1
    #expect(smx_softmax(x, out, &options) == SMX_OK)
    var rows = [Float](repeating: 0, count: 12)
    #expect(smx_softmax_f32(transposed, &rows, 4, 3) == SMX_OK)
    let columns = out.pointee.data.assumingMemoryBound(to: Float.self)
    for i in 0..<12 { #expect(columns[i % 3 * 4 + i / 3] == rows[i]) }
  }

  @Test func errorsNameTheArgumentAndLeaveTheOutput() {
    var out: [Float] = [7, 7, 7]
    #expect(smx_softmax_f32(nil, &out, 1, 3) == SMX_ERROR_NULL)
    #expect(String(cString: smx_last_error()).contains("x"))
    #expect(smx_softmax_f32(out, &out, -1, 3) == SMX_ERROR_SHAPE)
    #expect(smx_softmax_f32(out, &out, .max, .max) == SMX_ERROR_OVERFLOW)
    let arena = Arena()
    let x = arena.tensor(Dense(SMX_FLOAT32, [3, 4]) { Double($0) })
    let other = arena.tensor(Dense(SMX_FLOAT32, [4, 3]) { _ in 7 })
    #expect(smx_softmax(x, other, nil) == SMX_ERROR_SHAPE)
    #expect(String(cString: smx_last_error()).contains("(4, 3)"))
    #expect(String(cString: smx_last_error()).contains("(3, 4)"))
    var options = smx_softmax_options()
    #expect(smx_softmax(x, x, &options) == SMX_ERROR_SIZE)
    options.size = MemoryLayout<smx_softmax_options>.size
    options.axes = UnsafePointer(arena.copy([Int32(2)]))
    options.axis_count = 1
    #expect(smx_softmax(x, x, &options) == SMX_ERROR_AXIS)
    options.axis_count = 0
    options.temperature = UnsafePointer(arena.tensor(Dense(SMX_FLOAT64, []) { _ in -1 }))
    #expect(smx_softmax(x, x, &options) == SMX_ERROR_VALUE)
    #expect(out == [7, 7, 7])
    #expect(other.pointee.data.assumingMemoryBound(to: Float.self)[0] == 7)
  }

  @Test func everyStatusHasItsSentence() {
    let known = [
      SMX_OK, SMX_ERROR_NULL, SMX_ERROR_SIZE, SMX_ERROR_DTYPE, SMX_ERROR_SHAPE, SMX_ERROR_AXIS,
      SMX_ERROR_VALUE, SMX_ERROR_OVERLAP, SMX_ERROR_OVERFLOW, SMX_ERROR_ISA, SMX_ERROR_THREADS,
      SMX_ERROR_MEMORY,
    ]
    let sentences = known.map { String(cString: smx_status_string(smx_status($0))) }
    #expect(Set(sentences).count == known.count)
    #expect(String(cString: smx_status_string(12345)) == "unknown status")
  }

  @Test func version() {
    let version = String(cString: smx_version())
    #expect(version == "\(SMX_VERSION_MAJOR).\(SMX_VERSION_MINOR).\(SMX_VERSION_PATCH)")
  }

  @Test func instructionSets() {
    #expect(smx_isa_supported(isa) == 1)
    #expect(smx_isa_supported("v9") == -1)
    #expect(smx_isa_supported(nil) == -1)
  }

  @Test func threadsOfThisThread() {
    var before: Int32 = -1
    #expect(smx_set_num_threads_local(3, &before) == SMX_OK)
    var count: Int32 = 0
    #expect(smx_get_num_threads(&count) == SMX_OK)
    #expect(count == 3)
    #expect(smx_set_num_threads_local(before, nil) == SMX_OK)
    #expect(smx_set_num_threads_local(-1, nil) == SMX_ERROR_VALUE)
  }
}

// The golden cases called from Swift: the same hashes as from C and Python, for every thread count.

import CSwiftmax
import Testing

@Suite struct GoldenTests {
  /// Calls the case; in place where the result has the shape of x and `inPlace` asks for it.
  static func output(of c: GoldenCase, threads: Int32, inPlace: Bool) -> (smx_status, [UInt8]) {
    let arena = Arena()
    let x = c.makeX()
    let isSum = c.operation == "logsumexp"
    let shape = c.shape.indices.map { isSum && c.isReduced[$0] ? 1 : c.shape[$0] }
    let input = arena.tensor(x)
    let out = inPlace && !isSum ? input : arena.tensor(Dense(c.dtype, shape) { _ in 0 })
    let axes = arena.copy(c.isReduced.indices.filter { c.isReduced[$0] }.map { Int32($0) })
    let axisCount = Int32(c.isReduced.filter { $0 }.count)
    let mask = UnsafePointer(c.makeMask().map { arena.tensor($0) })
    let bias = UnsafePointer(c.makeBias().map { arena.tensor($0) })
    let structure = UnsafePointer(arena.structure(c))
    smx_set_num_threads_local(threads, nil)
    defer { smx_set_num_threads_local(0, nil) }
    let status: smx_status
    if isSum {
      var options = smx_logsumexp_options()
      options.size = MemoryLayout<smx_logsumexp_options>.size
      (options.axes, options.axis_count) = (UnsafePointer(axes), axisCount)
      (options.mask, options.bias, options.structure) = (mask, bias, structure)
      options.weights = UnsafePointer(c.makeWeights().map { arena.tensor($0) })
      status = smx_logsumexp(input, out, &options)
    } else {
      var options = smx_softmax_options()
      options.size = MemoryLayout<smx_softmax_options>.size
      (options.axes, options.axis_count) = (UnsafePointer(axes), axisCount)
      (options.mask, options.bias, options.structure) = (mask, bias, structure)
      options.temperature = UnsafePointer(c.makeTemperature().map { arena.tensor($0) })
      status = (c.operation == "softmax" ? smx_softmax : smx_log_softmax)(input, out, &options)
    }
    let count = shape.reduce(1, *) * x.itemSize
    return (status, [UInt8](UnsafeRawBufferPointer(start: out.pointee.data, count: count)))
  }

  @Test func everyCaseIsExpected() {
    #expect(goldenCases.count >= 60)
    #expect(Set(goldenCases.map(\.name)) == Set(goldenHashes.keys))
  }

  @Test(arguments: goldenCases)
  func bits(of c: GoldenCase) {
    var first: [UInt8] = []
    for threads in [1, 2, 3, 7] as [Int32] {
      for inPlace in [false, true] where !(inPlace && c.operation == "logsumexp") {
        let (status, bytes) = Self.output(of: c, threads: threads, inPlace: inPlace)
        #expect(status == SMX_OK, "\(c): \(String(cString: smx_last_error()))")
        if first.isEmpty {
          first = bytes
          let found = hash(bytes)
          #expect(
            found == goldenHashes[c.name],
            "\(c), isa \(isa): hash 0x\(String(found, radix: 16)), expected 0x\(String(goldenHashes[c.name] ?? 0, radix: 16))")
        } else if bytes != first {
          let at = zip(bytes, first).enumerated().first { $1.0 != $1.1 }!.offset
          Issue.record("\(c), isa \(isa), threads \(threads), in place \(inPlace): byte \(at) of \(bytes.count) is \(String(bytes[at], radix: 16)), first \(String(first[at], radix: 16))")
        }
      }
    }
  }
}

/// The instruction set that the library chose.
var isa: String {
  var name: UnsafePointer<CChar>?
  return smx_isa(&name) == SMX_OK ? String(cString: name!) : "none"
}

// The golden cases called from Swift: the same hashes as from C and Python, for every thread count.

import CSwiftmax
import Testing

@Suite struct GoldenTests {
  /// Calls the case; in place where the result has the shape of x and `inPlace` asks for it.
  static func output(
    of c: GoldenCase, _ inputs: GoldenInputs, threads: Int32, inPlace: Bool
  ) -> (smx_status, [UInt8]) {
    let arena = Arena()
    let x = inputs.x
    let isSum = c.operation == "logsumexp"
    let shape = c.shape.indices.map { isSum && c.isReduced[$0] ? 1 : c.shape[$0] }
    let input = arena.tensor(x)
    let out = inPlace && !isSum ? input : arena.tensor(Dense(c.dtype, shape) { _ in 0 })
    let axes = arena.copy(c.isReduced.indices.filter { c.isReduced[$0] }.map { Int32($0) })
    let axisCount = Int32(c.isReduced.filter { $0 }.count)
    let mask = UnsafePointer(inputs.mask.map { arena.tensor($0) })
    let bias = UnsafePointer(inputs.bias.map { arena.tensor($0) })
    let structure = UnsafePointer(arena.structure(c))
    smx_set_num_threads_local(threads, nil)
    defer { smx_set_num_threads_local(0, nil) }
    let status: smx_status
    if isSum {
      var options = smx_logsumexp_options()
      options.size = MemoryLayout<smx_logsumexp_options>.size
      (options.axes, options.axis_count) = (UnsafePointer(axes), axisCount)
      (options.mask, options.bias, options.structure) = (mask, bias, structure)
      options.weights = UnsafePointer(inputs.weights.map { arena.tensor($0) })
      status = smx_logsumexp(input, out, &options)
    } else {
      var options = smx_softmax_options()
      options.size = MemoryLayout<smx_softmax_options>.size
      (options.axes, options.axis_count) = (UnsafePointer(axes), axisCount)
      (options.mask, options.bias, options.structure) = (mask, bias, structure)
      options.temperature = UnsafePointer(inputs.temperature.map { arena.tensor($0) })
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
    let inputs = GoldenInputs(c)
    var first: [UInt8] = []
    for threads in [1, 2, 3, 7] as [Int32] {
      for inPlace in [false, true] where !(inPlace && c.operation == "logsumexp") {
        let (status, bytes) = Self.output(of: c, inputs, threads: threads, inPlace: inPlace)
        #expect(status == SMX_OK, "\(c): \(String(cString: smx_last_error()))")
        if first.isEmpty {
          first = bytes
          let (found, expected) = (hex(hash(bytes)), hex(goldenHashes[c.name] ?? 0))
          #expect(found == expected, "\(c), isa \(isa)")
        } else if bytes != first {
          let at = zip(bytes, first).enumerated().first { $1.0 != $1.1 }!.offset / inputs.x.itemSize
          let place = at * inputs.x.itemSize..<(at + 1) * inputs.x.itemSize
          let (found, expected) = (bits(bytes[place]), bits(first[place]))
          Issue.record(
            """
            \(c), isa \(isa), threads \(threads), in place \(inPlace): index \(at) is \(found), \
            the first call gave \(expected)
            """)
        }
      }
    }
  }

  private func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

  private func bits(_ bytes: ArraySlice<UInt8>) -> String {
    hex(bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) })
  }
}

/// The instruction set that the library chose.
var isa: String {
  var name: UnsafePointer<CChar>?
  return smx_isa(&name) == SMX_OK ? String(cString: name!) : "none"
}

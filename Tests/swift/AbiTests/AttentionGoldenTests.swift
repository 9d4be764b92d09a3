// The golden cases of attention called from Swift: the same hashes as from C and Python.

import CSwiftmax
import Testing

@Suite struct AttentionGoldenTests {
  static let results = ["out", "lse", "weights"]

  /// The bytes of out, lse and weights.
  static func call(
    _ c: AttentionCase, _ tensors: [Dense], threads: Int32
  ) -> (smx_status, [[UInt8]]) {
    let arena = Arena()
    let inputs = tensors.map { UnsafePointer(arena.tensor($0)) }
    let shape = c.scores.shape
    let outputs = [
      Dense(c.scores.dtype, [shape[0], shape[1], shape[2], c.valueSize]) { _ in 0 },
      Dense(c.single, Array(shape.dropLast())) { _ in 0 },
      Dense(c.scores.dtype, shape) { _ in 0 },
    ]
    let places = outputs.map { UnsafePointer(arena.tensor($0)) }
    var options = smx_attention_options()
    options.size = MemoryLayout<smx_attention_options>.size
    options.has_scale = c.options["scale"] == nil ? 0 : 1
    options.scale = Double(c.options["scale"] ?? "0")!
    options.softcap = Double(c.options["softcap"] ?? "0")!
    options.mask = UnsafePointer(c.scores.makeMask().map { arena.tensor($0) })
    options.bias = UnsafePointer(c.scores.makeBias().map { arena.tensor($0) })
    options.structure = UnsafePointer(arena.structure(c.scores))
    options.alibi_slopes = UnsafePointer(c.makeSlopes().map { arena.tensor($0) })
    options.sinks = UnsafePointer(c.makeSinks().map { arena.tensor($0) })
    options.lse = places[1]
    options.weights = places[2]
    smx_set_num_threads_local(threads, nil)
    defer { smx_set_num_threads_local(0, nil) }
    let status = smx_attention(inputs[0], inputs[1], inputs[2], places[0], &options)
    let bytes = zip(places, outputs).map {
      [UInt8](UnsafeRawBufferPointer(start: $0.pointee.data, count: $1.bytes.count))
    }
    return (status, bytes)
  }

  @Test func everyCaseIsExpected() {
    #expect(attentionCases.count >= 40)
    let lines = attentionCases.flatMap { c in Self.results.map { "\(c.name).\($0)" } }
    #expect(Set(lines) == Set(attentionHashes.keys))
  }

  @Test(arguments: attentionCases)
  func bits(of c: AttentionCase) {
    let tensors = c.makeTensors()
    for threads in [1, 3] as [Int32] {
      let (status, bytes) = Self.call(c, tensors, threads: threads)
      #expect(status == SMX_OK, "\(c): \(String(cString: smx_last_error()))")
      for (result, found) in zip(Self.results, bytes) {
        let expected = attentionHashes["\(c.name).\(result)"] ?? 0
        #expect(
          String(hash(found), radix: 16) == String(expected, radix: 16),
          "\(result) of \(c), isa \(isa), threads \(threads)")
      }
    }
  }
}

// An ordinary Swift program, its own runtime in heavy use, that calls libswiftmax.so. The library
// carries weak copies of some runtime symbols; exported, they would take the place of this
// program's and crash it.

import CSwiftmax

/// Strings, arrays, dictionaries, closures, existentials and classes: most of the runtime.
func exerciseRuntime(_ rounds: Int) -> Int {
  var words: [String: [Int]] = [:]
  for i in 0..<rounds {
    words["row \(i % 97) é", default: []].append(i)
  }
  let shapes: [Any] = words.keys.sorted().map { key in (key, words[key]!.count) as (String, Int) }
  let texts = shapes.compactMap { $0 as? (String, Int) }.map { "\($0.0): \($0.1)" }
  final class Box { var next: Box?; let value: Int; init(_ value: Int) { self.value = value } }
  var head: Box?
  for i in 0..<rounds {
    let box = Box(i)
    box.next = i % 50 == 0 ? nil : head
    head = box
  }
  return texts.joined(separator: ", ").utf8.count + (head?.value ?? 0)
}

/// Rows shared among threads and one that fails: bits of the results, or nil.
func callLibrary() -> [UInt32]? {
  let x = (0..<80_000).map { Float($0 % 251) / 16 - 7 }
  var out = [Float](repeating: -1, count: x.count)
  guard smx_set_num_threads(3) == SMX_OK, smx_softmax_f32(x, &out, 8, 10_000) == SMX_OK
  else { return nil }
  let sums = stride(from: 0, to: x.count, by: 10_000).map {
    out[$0..<$0 + 10_000].map(Double.init).reduce(0, +)
  }
  guard sums.allSatisfy({ abs($0 - 1) < 1e-5 }) else { return nil }
  guard smx_set_num_threads(0) == SMX_ERROR_VALUE,
    String(cString: smx_last_error()).contains("count")
  else { return nil }
  return out.map(\.bitPattern)
}

var passed = 0
var failed = 0
func check(_ ok: Bool, _ what: String) {
  if ok { passed += 1 } else { failed += 1; print("FAILED: \(what)") }
}

let first = callLibrary()
check(first != nil, "the first call")
let size = exerciseRuntime(100_000)
for round in 0..<20 {
  check(callLibrary() == first, "round \(round)")
  check(exerciseRuntime(100_000) == size, "the runtime in round \(round)")
}
print("test_swift_host, version \(String(cString: smx_version()))")
print("\(passed) passed, \(failed) failed")
if failed > 0 { fatalError("test_swift_host failed") }

// The interval arithmetic of structures against a look at every pair of query and key.

import CSupport
import CSwiftmax
import Testing

@testable import Kernels

@Suite struct StructureTests {
  /// One condition in plain numbers.
  struct Plain {
    var isCausal = false
    var offset: Int64?
    var window: (left: Int64, right: Int64)?
    var keyLength: Int64?
    var queryLength: Int64?

    /// The definition of swiftmax.h, without overflow at any offset.
    func sees(_ i: Int64, _ j: Int64, queries: Int64, keys: Int64) -> Bool {
      let place = Double(i) + Double(offset ?? (keys - queries))
      if isCausal && Double(j) > place { return false }
      if let window {
        if window.left >= 0 && Double(j) < place - Double(window.left) { return false }
        if window.right >= 0 && Double(j) > place + Double(window.right) { return false }
      }
      if let keyLength, j >= keyLength { return false }
      if let queryLength, i >= queryLength { return false }
      return true
    }
  }

  static func scalar(_ p: UnsafeMutablePointer<Int64>) -> smx_tensor {
    smx_tensor(data: p, dtype: smx_dtype(SMX_INT64), ndim: 0, shape: nil, strides: nil)
  }

  /// The keys that each query sees by `Kernels.interval`.
  static func intervals(_ plain: Plain, queries: Int64, keys: Int64) -> [(lower: Int, upper: Int)] {
    var numbers = [plain.offset ?? 0, plain.keyLength ?? 0, plain.queryLength ?? 0]
    return numbers.withUnsafeMutableBufferPointer { numbers in
      let p = numbers.baseAddress!
      var tensors = (scalar(p), scalar(p + 1), scalar(p + 2))
      return withUnsafeMutablePointer(to: &tensors.0) { offset in
        withUnsafeMutablePointer(to: &tensors.1) { keyLength in
          withUnsafeMutablePointer(to: &tensors.2) { queryLength in
            var mask = smx_mask()
            mask.size = MemoryLayout<smx_mask>.size
            mask.causal = plain.isCausal ? 1 : 0
            if let window = plain.window {
              mask.window = 1
              mask.window_left = window.left
              mask.window_right = window.right
            }
            if plain.offset != nil { mask.query_offset = UnsafePointer(offset) }
            if plain.keyLength != nil { mask.key_lengths = UnsafePointer(keyLength) }
            if plain.queryLength != nil { mask.query_lengths = UnsafePointer(queryLength) }
            var index: Int64 = 0
            return (0..<Int(queries)).map {
              Under.interval(&mask, &index, query: $0, of: Int(queries), keys: Int(keys))
            }
          }
        }
      }
    }
  }

  static func check(_ plain: Plain, queries: Int64, keys: Int64) {
    let found = intervals(plain, queries: queries, keys: keys)
    for i in 0..<queries {
      let (lower, upper) = found[Int(i)]
      let seen = (0..<keys).filter { lower <= Int($0) && Int($0) < upper }
      let exact = (0..<keys).filter { plain.sees(i, $0, queries: queries, keys: keys) }
      #expect(seen == exact, "\(plain), query \(i) of \(queries), \(keys) keys")
    }
  }

  static let shapes: [(Int64, Int64)] = [(1, 1), (4, 4), (3, 7), (7, 3), (1, 9), (9, 1)]

  @Test(arguments: [nil, 0, 1, -1, 3, -3, 100, -100, Int64.max, Int64.min] as [Int64?])
  func causal(offset: Int64?) {
    for (queries, keys) in Self.shapes {
      Self.check(Plain(isCausal: true, offset: offset), queries: queries, keys: keys)
    }
  }

  @Test(
    arguments: [-1, 0, 1, 2, 5, 100, .max] as [Int64], [-1, 0, 1, 3, 100, .max] as [Int64])
  func window(left: Int64, right: Int64) {
    let isHuge = max(left, right) == .max
    for (queries, keys) in Self.shapes {
      for offset in [nil, 0, 2, -2, -50, Int64.max, Int64.min] as [Int64?] {
        // A window and an offset that are both beyond 2^62 are taken for 2^62.
        if isHuge, let offset, abs(offset >> 1) > 1 << 60 { continue }
        for isCausal in [false, true] {
          let plain = Plain(isCausal: isCausal, offset: offset, window: (left, right))
          Self.check(plain, queries: queries, keys: keys)
        }
      }
    }
  }

  @Test func lengths() {
    for (queries, keys) in Self.shapes {
      for keyLength in 0...keys {
        for queryLength in 0...queries {
          let plain = Plain(isCausal: true, keyLength: keyLength, queryLength: queryLength)
          Self.check(plain, queries: queries, keys: keys)
        }
      }
    }
  }
}

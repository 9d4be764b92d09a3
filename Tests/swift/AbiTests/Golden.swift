// The golden cases in Swift, from the specification in Tests/golden/README.md: reading the lines,
// and the operands that they describe.

import CSwiftmax
import Foundation

/// One line of cases.txt.
struct GoldenCase: Sendable, CustomStringConvertible {
  let name: String
  let operation: String
  let dtype: Int
  let shape: [Int]
  let isReduced: [Bool]
  let values: String
  let seed: UInt64
  let options: [String: String]

  var description: String { "\(name), seed \(seed)" }
  var count: Int { shape.reduce(1, *) }
  var cols: Int { shape.last! }

  init(_ words: [Substring]) {
    name = String(words[0])
    operation = String(words[1])
    let dtypes = ["f16": SMX_FLOAT16, "bf16": SMX_BFLOAT16, "f32": SMX_FLOAT32, "f64": SMX_FLOAT64]
    dtype = dtypes[String(words[2])]!
    let shape = words[3].split(separator: "x").map { Int($0)! }
    let axes =
      words[4] == "all"
      ? Array(shape.indices)
      : words[4].split(separator: ",").map { (Int($0)! + shape.count) % shape.count }
    self.shape = shape
    isReduced = shape.indices.map { axes.contains($0) }
    values = String(words[5])
    seed = UInt64(words[6])!
    options = Dictionary(
      uniqueKeysWithValues: words[7...].map {
        let parts = $0.split(separator: "=")
        return (String(parts[0]), String(parts[1]))
      })
  }

  /// Number `index` of stream `which`: SplitMix64.
  func stream(_ which: UInt64, _ index: Int) -> UInt64 {
    var z = seed &+ (which << 32) &+ (UInt64(index) &+ 1) &* 0x9e37_79b9_7f4a_7c15
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// Number of bits of a dtype's significand.
private func bits(of dtype: Int) -> Int {
  switch dtype {
  case SMX_FLOAT16: 11
  case SMX_BFLOAT16: 8
  case SMX_FLOAT32: 24
  default: 53
  }
}

func power(_ exponent: Int) -> Double {
  Double(sign: .plus, exponent: exponent, significand: 1)
}

/// The upper `bits` bits of z as a signed number.
private func signed(_ z: UInt64, _ bits: Int) -> Double {
  Double(Int64(z >> (64 - UInt64(bits))) - (1 << (bits - 1)))
}

func uniform(_ dtype: Int, _ e: Int, _ z: UInt64) -> Double {
  // In this order no product overflows.
  signed(z, bits(of: dtype)) * power(1 - bits(of: dtype)) * power(e)
}

/// An array in C order.
struct Dense {
  let dtype: Int
  let shape: [Int]
  var bytes: [UInt8] = []

  var itemSize: Int {
    switch dtype {
    case SMX_BOOL: 1
    case SMX_FLOAT16, SMX_BFLOAT16: 2
    case SMX_FLOAT32, SMX_INT32: 4
    default: 8
    }
  }

  var count: Int { shape.reduce(1, *) }

  init(_ dtype: Int, _ shape: [Int], _ value: (Int) -> Double) {
    self.dtype = dtype
    self.shape = shape
    bytes.reserveCapacity(count * itemSize)
    for i in 0..<count { append(value(i)) }
  }

  private mutating func append(_ value: Double) {
    func add<T: FixedWidthInteger>(_ bits: T) {
      withUnsafeBytes(of: bits.littleEndian) { bytes.append(contentsOf: $0) }
    }
    switch dtype {
    case SMX_BOOL: add(UInt8(value))
    case SMX_INT32: add(Int32(value))
    case SMX_FLOAT32: add(value.isNaN ? 0x7fc0_0000 : Float(value).bitPattern)
    case SMX_FLOAT64: add(value.isNaN ? 0x7ff8_0000_0000_0000 : value.bitPattern)
    case SMX_BFLOAT16: add(value.isNaN ? 0x7fc0 : UInt16(Float(value).bitPattern >> 16))
    default: add(value.isNaN ? 0x7e00 : float16(value))
    }
  }

  /// The bits of a value that a float16 holds exactly.
  private func float16(_ value: Double) -> UInt16 {
    let sign: UInt16 = value.sign == .minus ? 0x8000 : 0
    let magnitude = abs(value)
    if magnitude == .infinity { return sign | 0x7c00 }
    if magnitude < power(-14) { return sign | UInt16(magnitude * power(24)) }
    let field = UInt16(magnitude.exponent + 15) << 10
    return sign | field | UInt16((magnitude.significand - 1) * 1024)
  }
}

extension GoldenCase {
  func makeX() -> Dense {
    let words = values.split(separator: "+")
    let base = words[0]
    let numbers = base.dropFirst().split(separator: "@").compactMap { Int($0) }
    let peak = words.first { $0.hasPrefix("peak") }.map { power(Int($0.dropFirst(4))!) }
    let width = bits(of: dtype)
    return Dense(dtype, shape) { i in
      let (row, col) = i.quotientAndRemainder(dividingBy: cols)
      let z = stream(0, i)
      var value: Double
      if base == "ties" {
        value = Double(z >> 62) - 1
      } else if numbers.count == 2 {
        let (e, center) = (numbers[0], numbers[1])
        value = power(center) + signed(z, width - center + e) * power(center - width + 1)
      } else {
        value = uniform(dtype, numbers[0], z)
      }
      let isPlace = col == Int(stream(5, row) % UInt64(cols))
      if let peak, isPlace { value = peak }
      if words.contains("ninf") && (row % 5 == 3 || z & 7 == 0) { value = -.infinity }
      if words.contains("nan") && row % 5 == 1 && isPlace { value = .nan }
      if words.contains("inf") && row % 5 == 2 && isPlace { value = .infinity }
      return value
    }
  }

  private func shape(isOneRow: Bool) -> [Int] {
    isOneRow ? shape.dropLast().map { _ in 1 } + [cols] : shape
  }

  func makeMask() -> Dense? {
    options["mask"].map { kind in
      Dense(SMX_BOOL, shape(isOneRow: kind == "cols")) { i in
        stream(1, i) >> 62 != 0 && !(kind == "rows" && i / cols % 3 == 1) ? 1 : 0
      }
    }
  }

  func makeBias() -> Dense? {
    options["bias"].map { kind in
      let dtype = kind == "f32" ? SMX_FLOAT32 : self.dtype
      return Dense(dtype, shape(isOneRow: kind == "cols")) { i in
        let z = stream(2, i)
        let isClosed = kind == "closed" && (z & 7 == 0 || i / cols % 4 == 1)
        return isClosed ? -.infinity : uniform(dtype, 1, z)
      }
    }
  }

  func makeWeights() -> Dense? {
    options["weights"].map { kind in
      Dense(dtype, shape) { i in
        let value = uniform(dtype, 1, stream(3, i))
        return kind == "positive" ? abs(value) : value
      }
    }
  }

  func makeTemperature() -> Dense? {
    options["temperature"].map { kind in
      let ofRows = [0, 0.5, 1, 2, Double.infinity, 3]
      let kept = shape.indices.map { kind == "rows" && !isReduced[$0] ? shape[$0] : 1 }
      return Dense(SMX_FLOAT64, kept) { kind == "rows" ? ofRows[$0 % 6] : Double(kind)! }
    }
  }
}

/// All operands of a case but its structure.
struct GoldenInputs {
  let x: Dense
  let mask, bias, weights, temperature: Dense?

  init(_ c: GoldenCase) {
    x = c.makeX()
    mask = c.makeMask()
    bias = c.makeBias()
    weights = c.makeWeights()
    temperature = c.makeTemperature()
  }
}

/// FNV-1a of 64 bits.
func hash(_ bytes: [UInt8]) -> UInt64 {
  bytes.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
}

/// Tests/golden, found from this file.
private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("golden")

func lines(of file: String) -> [[Substring]] {
  let text = (try? String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)) ?? ""
  return text.split(separator: "\n")
    .map { $0.prefix { $0 != "#" }.split(separator: " ") }
    .filter { !$0.isEmpty }
}

let goldenCases = lines(of: "cases.txt").map { GoldenCase($0) }
let goldenHashes = hashes(of: "expected.txt")

/// What a file of expected results has for each name.
func hashes(of file: String) -> [String: UInt64] {
  Dictionary(
    uniqueKeysWithValues: lines(of: file).map {
      (String($0[0]), UInt64($0[1].dropFirst(2), radix: 16)!)
    })
}

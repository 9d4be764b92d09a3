// The golden cases of attention in Swift, from the specification in Tests/golden/README.md.

import CSwiftmax
import Foundation

/// One line of attention_cases.txt.
struct AttentionCase: Sendable, CustomStringConvertible {
  /// A case whose x would be the scores (B, Hq, Lq, Lk): its mask, bias and structure are this
  /// one's.
  let scores: GoldenCase
  let keyHeads, headSize, valueSize: Int

  var description: String { scores.description }
  var name: String { scores.name }
  var options: [String: String] { scores.options }
  /// The dtype of lse, slopes and sinks.
  var single: Int { scores.dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32 }

  init(_ words: [Substring]) {
    let shape = words[2].split(separator: "x")
    let ofScores = Substring([shape[0], shape[1], shape[3], shape[4]].joined(separator: "x"))
    scores = GoldenCase(
      [words[0], "attention", words[1], ofScores, "-1", words[3], words[4]] + words[5...])
    keyHeads = Int(shape[2])!
    headSize = Int(shape[5])!
    valueSize = Int(shape[6])!
  }

  /// Query, key or value from its stream; `letter` is its own in the names of changes, `base` an
  /// exponent or one behind `ties:`.
  private func tensor(
    _ stream: UInt64, _ shape: [Int], base: Substring, _ letter: String, every: Int, first: Int
  ) -> Dense {
    let changes = scores.values.split(separator: "+")
    let isTies = base.hasPrefix("ties:")
    let e = Int(base.split(separator: ":").last!)!
    let cols = shape[3]
    return Dense(scores.dtype, shape) { i in
      let (row, col) = i.quotientAndRemainder(dividingBy: cols)
      let z = scores.stream(stream, i)
      var value = isTies ? (Double(z >> 62) - 1) * power(e) : uniform(scores.dtype, e, z)
      if col == Int(scores.stream(5, row) % UInt64(cols)) {
        if changes.contains("nan\(letter)") && row % every == first { value = .nan }
        if changes.contains("inf\(letter)") && row % every == first + 1 { value = .infinity }
      }
      return value
    }
  }

  func makeTensors() -> [Dense] {
    let base = scores.values.split(separator: "+")[0].dropFirst()
    let (batch, heads) = (scores.shape[0], scores.shape[1])
    let (queries, keys) = (scores.shape[2], scores.shape[3])
    return [
      tensor(0, [batch, heads, queries, headSize], base: base, "q", every: 5, first: 1),
      tensor(6, [batch, keyHeads, keys, headSize], base: base, "k", every: 40, first: 21),
      tensor(
        7, [batch, keyHeads, keys, valueSize], base: Substring(options["value"] ?? "1"), "v",
        every: 40, first: 21),
    ]
  }

  func makeSlopes() -> Dense? {
    options["alibi"].map { text in
      let parts = text.split(separator: ":")
      let shape = Array(scores.shape[(parts.count == 2 ? 0 : 1)..<2])
      return Dense(single, shape) { abs(uniform(single, Int(parts.last!)!, scores.stream(9, $0))) }
    }
  }

  func makeSinks() -> Dense? {
    options["sinks"].map { text in
      Dense(single, [scores.shape[1]]) { i in
        let e = Int(text)
        return e == nil && i % 2 == 0 ? -.infinity : uniform(single, e ?? 1, scores.stream(8, i))
      }
    }
  }
}

let attentionCases = lines(of: "attention_cases.txt").map { AttentionCase($0) }
let attentionHashes = hashes(of: "attention_expected.txt")

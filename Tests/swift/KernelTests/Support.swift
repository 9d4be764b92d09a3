// What the kernel tests share: numbers from SplitMix64, the vector types of one instruction set.

import CSupport
import CSwiftmax

@testable import Kernels
@testable import KernelsV2

/// The types under test. Every x86-64 CPU runs this set, and all sets give the same bits.
typealias HereOfTests = KernelsV2.Here
typealias Under = Kernels<HereOfTests>
typealias F32 = Under.F32
typealias F64 = Under.F64

struct SplitMix64: RandomNumberGenerator {
  var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// ln 2 as a Double and the rest: the product of the first with a whole number below 2^11, which is
/// all that float64 needs, is exact in Float80.
let ln2High: Float80 = 0x1.62e42fefa39efp-1
let ln2Low: Float80 = 0x1.abc9e3b39803f2f6bp-56

/// x - n·ln2.
func reduced(_ x: Double, by n: Double) -> Float80 {
  (Float80(x) - Float80(n) * ln2High) - Float80(n) * ln2Low
}

/// The kernels of an instruction set, as the ABI gets them; nil where this CPU lacks it.
func table(_ name: String) -> smxk_kernels? {
  guard smxk_isa_runs(name) == 1 else { return nil }
  // Every field is filled below; the initial value only gives the room.
  return withUnsafeTemporaryAllocation(of: smxk_kernels.self, capacity: 1) { room in
    let p = room.baseAddress!
    switch name {
    case "v2": smxk_fill_v2(p)
    case "v3": smxk_fill_v3(p)
    case "v4": smxk_fill_v4(p)
    default: return nil
    }
    return p.pointee
  }
}

let instructionSets = ["v2", "v3", "v4"]

// What is particular to this instruction set: its getter, by the name that kernels.h declares, and
// its choices.

import CSupport

@_cdecl("smxk_fill_neon")
public func fillNEON(_ table: UnsafeMutablePointer<smxk_kernels>) {
  table.initialize(to: smxk_kernels.table())
}

extension Here {
  /// 32 registers of 4 lanes: a vector is four, and four chains are interleaved already.
  static var interleaves: Bool { @inline(__always) get { false } }
  static var hasFastPaths: Bool { @inline(__always) get { true } }
  static var hasWideTiles: Bool { @inline(__always) get { false } }
  static var scalesByPowers: Bool { @inline(__always) get { false } }
}

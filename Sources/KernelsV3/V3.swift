// What is particular to this instruction set: its getter, by the name that kernels.h declares, and
// its choices.

import CSupport

@_cdecl("smxk_fill_v3")
public func fillV3(_ table: UnsafeMutablePointer<smxk_kernels>) {
  table.initialize(to: smxk_kernels.table())
}

extension Here {
  /// Sixteen registers of 8 lanes: a vector is two, and two chains are interleaved already.
  static var interleaves: Bool { @inline(__always) get { false } }
  static var hasFastPaths: Bool { @inline(__always) get { true } }
  static var hasWideTiles: Bool { @inline(__always) get { false } }
  static var scalesByPowers: Bool { @inline(__always) get { false } }
}

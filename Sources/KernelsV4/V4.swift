// What is particular to this instruction set: its getter, by the name that kernels.h declares, and
// its choices.

import CSupport

@_cdecl("smxk_fill_v4")
public func fillV4(_ table: UnsafeMutablePointer<smxk_kernels>) {
  table.initialize(to: smxk_kernels.table())
}

extension Here {
  /// 32 registers of 16 lanes.
  static var interleaves: Bool { @inline(__always) get { true } }
  static var hasFastPaths: Bool { @inline(__always) get { true } }
  static var hasWideTiles: Bool { @inline(__always) get { true } }
  static var scalesByPowers: Bool { @inline(__always) get { true } }
}

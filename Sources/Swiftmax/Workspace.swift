// Memory that a call works in: the caller's, or the call's own for as long as it lasts.

import CSupport
import CSwiftmax

/// What a call was given to work in.
struct Workspace {
  private let given: UnsafeMutableRawPointer?
  private let bytes: Int
  private let size: UnsafeMutablePointer<Int>?

  /// `size` is where the number of bytes goes when only that is asked for.
  init(
    _ given: UnsafeMutableRawPointer? = nil, _ bytes: Int = 0,
    size: UnsafeMutablePointer<Int>? = nil
  ) {
    self.given = given
    self.bytes = bytes
    self.size = size
  }

  /// `needed` bytes for something of a tensor; nil where only their number was asked for. Without a
  /// number they are more than any memory has.
  @inline(never)
  func room(
    _ needed: Int?, for purpose: StaticString, of tensor: Tensor
  ) throws(Failure) -> Room? {
    guard let needed else { throw memoryFailure(nil, purpose, tensor) }
    if let size {
      size.pointee = needed
      return nil
    }
    if needed == 0 { return Room(start: UnsafeMutableRawPointer(bitPattern: 64)!) }
    if let given {
      if UInt(bitPattern: bytes) < UInt(needed) {
        throw failure(SMX_ERROR_VALUE) {
          $0.add("workspace_size is ")
          $0.add(size: bytes)
          $0.add(", but this call needs ")
          $0.add(Int64(needed))
          $0.add(" bytes")
        }
      }
      if Int(bitPattern: given) % 64 != 0 {
        throw failure(SMX_ERROR_VALUE, "workspace must be aligned to 64 bytes, but is not")
      }
      return Room(start: given, bytes: needed)
    }
    guard let own = smxk_allocate(needed) else { throw memoryFailure(needed, purpose, tensor) }
    return Room(start: own, own: own)
  }

  @inline(never)
  private func memoryFailure(_ bytes: Int?, _ purpose: StaticString, _ tensor: Tensor) -> Failure {
    failure(SMX_ERROR_MEMORY) {
      $0.add("out of memory for a workspace")
      if let bytes {
        $0.add(" of ")
        $0.add(Int64(bytes))
        $0.add(" bytes")
      }
      $0.add(": ")
      $0.add(purpose)
      $0.add(" of ")
      $0.add(tensor.name)
      $0.add(" of shape ")
      $0.add(shapeOf: tensor.raw)
    }
  }
}

/// Memory to work in, aligned to 64 bytes. Whoever took it gives it back.
struct Room {
  let start: UnsafeMutableRawPointer
  /// Of the caller's, how much; 0 of the call's own, which nothing can overlap.
  var bytes = 0
  var own: UnsafeMutableRawPointer? = nil

  func release() { smxk_release(own) }

  /// Refuses a tensor that reaches into the caller's workspace.
  @inline(never) func requireApart(from tensor: Tensor?) throws(Failure) {
    guard let tensor, bytes > 0 else { return }
    let begin = Int(bitPattern: start)
    let extent = tensor.extent()
    guard extent.lower < begin &+ bytes, begin < extent.upper else { return }
    throw failure(SMX_ERROR_OVERLAP) {
      $0.add("workspace of ")
      $0.add(Int64(bytes))
      $0.add(" bytes overlaps ")
      $0.add(tensor.name)
      $0.add(" of shape ")
      $0.add(shapeOf: tensor.raw)
    }
  }
}

extension Room {
  @inline(never) func requireApart(fromThoseOf structure: UnsafePointer<smx_mask>?) throws(Failure)
  {
    if bytes == 0 { return }
    try forEachTensor(of: structure) { (input) throws(Failure) in try requireApart(from: input) }
  }
}

/// The way in of a call's `…_workspace_size`: the call itself, up to where it would take memory.
/// One that takes none leaves the size 0.
func enter(
  measuring size: UnsafeMutablePointer<Int>?,
  _ body: (Machine, UnsafeMutablePointer<Int>) throws(Failure) -> Void
) -> smx_status {
  enter { (machine) throws(Failure) in
    guard let size else { throw failure(SMX_ERROR_NULL, "size is NULL") }
    var needed = 0
    try body(machine, &needed)
    size.pointee = needed
  }
}

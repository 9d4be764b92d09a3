// Version, instruction set, threads, statuses.

import CSupport
import CSwiftmax

@implementation @_cdecl("smx_version")
public func smx_version() -> UnsafePointer<CChar>! { cString("0.1.0") }

/// The instruction set in use: "v2", "v3", "v4" or "neon".
@implementation @_cdecl("smx_isa")
public func smx_isa(_ name: UnsafeMutablePointer<UnsafePointer<CChar>?>!) -> smx_status {
  guard smxk_kernels_chosen() != nil else { return isaFailure().status }
  guard let name else { return failure(SMX_ERROR_NULL, "name is NULL").status }
  name.pointee = smxk_isa_name()
  return smx_status(SMX_OK)
}

@implementation @_cdecl("smx_isa_supported")
public func smx_isa_supported(_ name: UnsafePointer<CChar>!) -> Int32 {
  name == nil ? -1 : smxk_isa_runs(name)
}

// -- threads --------------------------------------------------------------------------------------

@implementation @_cdecl("smx_set_num_threads")
public func smx_set_num_threads(_ count: Int32) -> smx_status {
  if let failure = countFailure(count, least: 1) { return failure.status }
  smxk_set_thread_count(count)
  return smx_status(SMX_OK)
}

@implementation @_cdecl("smx_get_num_threads")
public func smx_get_num_threads(_ count: UnsafeMutablePointer<Int32>!) -> smx_status {
  guard let count else { return failure(SMX_ERROR_NULL, "count is NULL").status }
  let threads = smxk_thread_count()
  if threads == 0 { return threadsFailure().status }
  count.pointee = threads
  return smx_status(SMX_OK)
}

@implementation @_cdecl("smx_set_num_threads_local")
public func smx_set_num_threads_local(
  _ count: Int32, _ previous: UnsafeMutablePointer<Int32>!
) -> smx_status {
  if let failure = countFailure(count, least: 0) { return failure.status }
  let before = smxk_set_local_thread_count(count)
  if let previous { previous.pointee = before }
  return smx_status(SMX_OK)
}

private func countFailure(_ count: Int32, least: Int32) -> Failure? {
  if count >= least && count <= Int32(SMXK_MAX_THREADS) { return nil }
  return failure(SMX_ERROR_VALUE) {
    $0.add("count must be from ")
    $0.add(Int64(least))
    $0.add(" to ")
    $0.add(Int64(SMXK_MAX_THREADS))
    $0.add(", but is ")
    $0.add(Int64(count))
  }
}

// -- statuses -------------------------------------------------------------------------------------

@implementation @_cdecl("smx_last_error")
public func smx_last_error() -> UnsafePointer<CChar>! { UnsafePointer(smxk_sentence()) }

@implementation @_cdecl("smx_status_string")
public func smx_status_string(_ status: smx_status) -> UnsafePointer<CChar>! {
  switch Int(status) {
  case SMX_OK: return cString("success")
  case SMX_ERROR_NULL: return cString("a pointer is NULL")
  case SMX_ERROR_SIZE: return cString("a struct's size field is not one that this version knows")
  case SMX_ERROR_DTYPE: return cString("a dtype is unknown or not allowed here")
  case SMX_ERROR_SHAPE: return cString("two shapes disagree, or one is not a shape")
  case SMX_ERROR_AXIS: return cString("an axis is out of range or given twice")
  case SMX_ERROR_VALUE: return cString("a value is out of its range")
  case SMX_ERROR_OVERLAP:
    return cString("an output overlaps an input that is not the same tensor, or itself")
  case SMX_ERROR_OVERFLOW: return cString("a size does not fit in memory")
  case SMX_ERROR_ISA: return cString("SWIFTMAX_ISA names an instruction set that cannot be used")
  case SMX_ERROR_THREADS: return cString("SWIFTMAX_NUM_THREADS is not a number of threads")
  case SMX_ERROR_MEMORY: return cString("out of memory")
  default: return cString("unknown status")
  }
}

/// A literal as C sees it: null-terminated, never freed.
private func cString(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

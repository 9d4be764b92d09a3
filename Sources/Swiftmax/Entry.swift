// The way in and out of every call: kernels chosen, floating-point mode set and given back,
// failures turned into statuses.

import CSupport
import CSwiftmax

/// The kernels and the number of threads for one call.
struct Machine {
  let kernels: UnsafePointer<smxk_kernels>
  let threads: Int32
}

/// Runs `body` under the standard floating-point mode; nothing else of the library computes.
@inline(__always)
func enter(_ body: (Machine) throws(Failure) -> Void) -> smx_status {
  guard let kernels = smxk_kernels_chosen() else { return isaFailure().status }
  let threads = smxk_thread_count()
  guard threads > 0 else { return threadsFailure().status }
  let mode = smxk_enter_mode()
  defer { smxk_leave_mode(mode) }
  do {
    try body(Machine(kernels: kernels, threads: threads))
    return smx_status(SMX_OK)
  } catch {
    return error.status
  }
}

func isaFailure() -> Failure {
  failure(SMX_ERROR_ISA) {
    if smxk_isa_name().pointee == 0 {
      $0.add(
        "this CPU is older than x86-64-v2, the oldest instruction set that the library has code for"
      )
      return
    }
    $0.add("SWIFTMAX_ISA is ")
    $0.add(cString: smxk_isa_name())
    $0.add(
      smxk_isa_runs(smxk_isa_name()) < 0
        ? ", but the instruction sets are v2, v3, v4 and neon"
        : ", but this CPU does not run it")
  }
}

func threadsFailure() -> Failure {
  failure(SMX_ERROR_THREADS) {
    $0.add("SWIFTMAX_NUM_THREADS is ")
    $0.add(cString: smxk_refused_thread_count())
    $0.add(", but must be a whole number from 1 to ")
    $0.add(Int64(SMXK_MAX_THREADS))
  }
}

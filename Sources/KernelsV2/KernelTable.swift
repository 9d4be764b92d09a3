// The table of kernels for this target's instruction set.
//
// One file, linked into every ISA target: the target's own flags decide what it compiles to. A
// kernel that is listed in kernels.h and missing here does not compile.

import CSupport
import Kernels

/// The marker of this target. Its operations are CSupport's, inlined here under this target's
/// flags.
enum Here: ISA {
  @inline(__always)
  static func fma(_ a: SIMD16<Float>, _ b: SIMD16<Float>, _ c: SIMD16<Float>) -> SIMD16<Float> {
    smxk_fma_f32(a, b, c)
  }
  @inline(__always)
  static func fma(_ a: SIMD8<Double>, _ b: SIMD8<Double>, _ c: SIMD8<Double>) -> SIMD8<Double> {
    smxk_fma_f64(a, b, c)
  }
  @inline(__always)
  static func fma(
    _ a: SIMD16<Float>, _ b: SIMD16<Float>, _ c: SIMD16<Float>, unless x: SIMD16<Float>,
    lessThan bound: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_fma_unless_less_f32(x, bound, a, b, c)
  }
  @inline(__always)
  static func fma(
    _ a: SIMD8<Double>, _ b: SIMD8<Double>, _ c: SIMD8<Double>, unless x: SIMD8<Double>,
    lessThan bound: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_fma_unless_less_f64(x, bound, a, b, c)
  }
  @inline(__always) static func max(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float> {
    smxk_max_f32(a, b)
  }
  @inline(__always)
  static func pick(
    _ a: SIMD16<Float>, lessThan b: SIMD16<Float>, _ yes: SIMD16<Float>, _ no: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_pick_less_f32(a, b, yes, no)
  }
  @inline(__always)
  static func pick(
    _ a: SIMD16<Float>, equalTo b: SIMD16<Float>, _ yes: SIMD16<Float>, _ no: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_pick_equal_f32(a, b, yes, no)
  }
  @inline(__always) static func max(_ a: SIMD8<Double>, _ b: SIMD8<Double>) -> SIMD8<Double> {
    smxk_max_f64(a, b)
  }
  @inline(__always)
  static func pick(
    _ a: SIMD8<Double>, lessThan b: SIMD8<Double>, _ yes: SIMD8<Double>, _ no: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_pick_less_f64(a, b, yes, no)
  }
  @inline(__always)
  static func pick(
    _ a: SIMD8<Double>, equalTo b: SIMD8<Double>, _ yes: SIMD8<Double>, _ no: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_pick_equal_f64(a, b, yes, no)
  }
  @inline(__always) static func above(_ v: SIMD16<Float>, _ bound: SIMD16<Float>) -> UInt32 {
    smxk_above_f32(v, bound)
  }
  @inline(__always) static func above(_ v: SIMD8<Double>, _ bound: SIMD8<Double>) -> UInt32 {
    smxk_above_f64(v, bound)
  }
  @inline(__always) static func widen(_ v: SIMD8<Float>) -> SIMD8<Double> { smxk_widen(v) }
  @inline(__always) static func narrow(_ v: SIMD8<Double>) -> SIMD8<Float> { smxk_narrow(v) }
  @inline(__always) static func floor(_ v: SIMD16<Float>) -> SIMD16<Float> { smxk_floor_f32(v) }
  @inline(__always) static func floor(_ v: SIMD8<Double>) -> SIMD8<Double> { smxk_floor_f64(v) }
  @inline(__always) static func rest(_ v: SIMD16<Float>) -> SIMD16<Float> { smxk_rest_f32(v) }
  @inline(__always) static func rest(_ v: SIMD8<Double>) -> SIMD8<Double> { smxk_rest_f64(v) }
  @inline(__always) static func scaled(
    _ p: SIMD16<Float>, _ n: SIMD16<Float>, from d: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_scaled_f32(p, n, d)
  }
  @inline(__always) static func scaled(
    _ p: SIMD8<Double>, _ n: SIMD8<Double>, from d: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_scaled_f64(p, n, d)
  }
  @inline(__always) static func scaled(
    _ p: SIMD16<Float>, _ n: SIMD16<Float>, from d: SIMD16<Float>, least: Float
  ) -> SIMD16<Float> {
    smxk_scaled_from_f32(p, n, d, least)
  }
  @inline(__always) static func scaled(
    _ p: SIMD8<Double>, _ n: SIMD8<Double>, from d: SIMD8<Double>, least: Double
  ) -> SIMD8<Double> {
    smxk_scaled_from_f64(p, n, d, least)
  }
  @inline(__always) static func turn(_ v: SIMD16<Float>, by n: Int) -> SIMD16<Float> {
    smxk_turn_f32(v, Int64(n))
  }
  @inline(__always) static func turn(_ v: SIMD8<Double>, by n: Int) -> SIMD8<Double> {
    smxk_turn_f64(v, Int64(n))
  }
  @inline(__always) static func zipLower(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float> {
    smxk_zip_lower_f32(a, b)
  }
  @inline(__always) static func zipUpper(_ a: SIMD16<Float>, _ b: SIMD16<Float>) -> SIMD16<Float> {
    smxk_zip_upper_f32(a, b)
  }
  @inline(__always) static func whole(_ v: SIMD16<Float>) -> SIMD16<Float> { smxk_whole_f32(v) }
  @inline(__always) static func largest(_ v: SIMD16<Float>) -> Float { smxk_largest_f32(v) }
  @inline(__always) static func weaveLower(
    _ a: SIMD16<Float>, _ b: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_weave_lower_f32(a, b)
  }
  @inline(__always) static func weaveLower(
    _ a: SIMD8<Double>, _ b: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_weave_lower_f64(a, b)
  }
  @inline(__always) static func weaveUpper(
    _ a: SIMD16<Float>, _ b: SIMD16<Float>
  ) -> SIMD16<Float> {
    smxk_weave_upper_f32(a, b)
  }
  @inline(__always) static func weaveUpper(
    _ a: SIMD8<Double>, _ b: SIMD8<Double>
  ) -> SIMD8<Double> {
    smxk_weave_upper_f64(a, b)
  }
  @inline(__always) static func largest(_ v: SIMD8<Double>) -> Double { smxk_largest_f64(v) }
  @inline(__always)
  static func total(_ high: SIMD16<Float>, _ low: SIMD16<Float>, origin: Float) -> smxk_pair {
    smxk_total_f32(high, low, origin)
  }
  @inline(__always)
  static func total(_ high: SIMD8<Double>, _ low: SIMD8<Double>, origin: Double) -> smxk_pair {
    smxk_total_f64(high, low, origin)
  }
  @inline(__always)
  static func load(_ p: UnsafePointer<Float>, from: Int, to: Int, fill: Float) -> SIMD16<Float> {
    smxk_load_part_f32(p, Int64(from), Int64(to), fill)
  }
  @inline(__always)
  static func load(_ p: UnsafePointer<Double>, from: Int, to: Int, fill: Double) -> SIMD8<Double> {
    smxk_load_part_f64(p, Int64(from), Int64(to), fill)
  }
  @inline(__always)
  static func store(_ v: SIMD16<Float>, _ p: UnsafeMutablePointer<Float>, from: Int, to: Int) {
    smxk_store_part_f32(p, Int64(from), Int64(to), v)
  }
  @inline(__always)
  static func store(_ v: SIMD8<Double>, _ p: UnsafeMutablePointer<Double>, from: Int, to: Int) {
    smxk_store_part_f64(p, Int64(from), Int64(to), v)
  }
  @inline(__always) static func load(_ p: UnsafeRawPointer, from: Int, to: Int) -> SIMD16<UInt16> {
    smxk_load_part_u16(p, Int64(from), Int64(to))
  }
  @inline(__always) static func store(
    _ v: SIMD16<UInt16>, _ p: UnsafeMutableRawPointer, from: Int, to: Int
  ) {
    smxk_store_part_u16(p, Int64(from), Int64(to), v)
  }
  @inline(__always) static func fill(
    _ v: SIMD16<Float>, from: Int, to: Int, _ fill: Float
  ) -> SIMD16<Float> {
    smxk_fill_f32(v, Int64(from), Int64(to), fill)
  }
  @inline(__always) static func stream(
    _ v: SIMD16<Float>, _ p: UnsafeMutablePointer<Float>
  ) {
    smxk_stream_f32(p, v)
  }
  @inline(__always) static func stream(
    _ v: SIMD8<Double>, _ p: UnsafeMutablePointer<Double>
  ) {
    smxk_stream_f64(p, v)
  }
  @inline(__always) static func streamFence() { smxk_stream_fence() }
  @inline(__always) static func prefetchRead(_ p: UnsafeRawPointer) { smxk_prefetch_read(p) }
  @inline(__always) static func prefetchAhead(_ p: UnsafeRawPointer) { smxk_prefetch_ahead(p) }
  @inline(__always) static func prefetchWrite(_ p: UnsafeRawPointer) { smxk_prefetch_write(p) }
  @inline(__always) static func loadFloat16(_ p: UnsafePointer<UInt16>) -> SIMD16<Float> {
    smxk_load_f16(p)
  }
  @inline(__always) static func loadQuarters(
    _ p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer, _ s: UnsafeRawPointer
  ) -> SIMD16<Float> {
    smxk_load_quarters_f32(p, q, r, s)
  }
  @inline(__always) static func loadQuarters(
    _ p: UnsafeRawPointer, _ q: UnsafeRawPointer, _ r: UnsafeRawPointer, _ s: UnsafeRawPointer
  ) -> SIMD8<Double> {
    smxk_load_quarters_f64(p, q, r, s)
  }
  @inline(__always) static func loadBytes(
    _ p: UnsafeRawPointer
  ) -> SIMD16<Float> {
    smxk_load_bytes_f32(p)
  }
  @inline(__always) static func loadBytes(
    _ p: UnsafeRawPointer
  ) -> SIMD8<Double> {
    smxk_load_bytes_f64(p)
  }
  @inline(__always) static func loadBFloat16(_ p: UnsafePointer<UInt16>) -> SIMD16<Float> {
    smxk_load_bf16(p)
  }
  @inline(__always) static func halvesFloat16(
    _ words: SIMD16<Float>, upper: Bool
  ) -> SIMD16<Float> {
    smxk_halves_f16(words, upper ? 1 : 0)
  }
  @inline(__always) static func storeFloat16(
    _ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>
  ) {
    smxk_store_f16(p, v)
  }
  @inline(__always) static func storeBFloat16(
    _ v: SIMD16<Float>, _ p: UnsafeMutablePointer<UInt16>
  ) {
    smxk_store_bf16(p, v)
  }
}

typealias HereKernels = Kernels<Here>

extension smxk_kernels {
  /// The kernels of this instruction set.
  static func table() -> smxk_kernels {
    smxk_kernels(
      rows_f32: { HereKernels.rows(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3) },
      rows_f64: { HereKernels.rows(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3) },
      begin_row: { HereKernels.beginRow($0, $1, Int($2)) },
      chunk_f32: {
        HereKernels.chunk(HereKernels.F32.self, $0, $1, Int($2), $3, &$4.pointee)
      },
      chunk_f64: {
        HereKernels.chunk(HereKernels.F64.self, $0, $1, Int($2), $3, &$4.pointee)
      },
      absorb: { HereKernels.absorb($0, $1.pointee) },
      advance_f32: { HereKernels.advance(HereKernels.F32.self, $0, $1) },
      advance_f64: { HereKernels.advance(HereKernels.F64.self, $0, $1) },
      jacobian_f32: {
        HereKernels.jacobian(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      jacobian_f64: {
        HereKernels.jacobian(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3)
      },
      project_f32: { HereKernels.project(HereKernels.F32.self, $0, Int($1), $2) },
      project_f64: { HereKernels.project(HereKernels.F64.self, $0, Int($1), $2) },
      attention_f32: { HereKernels.attention(HereKernels.F32.self, $0, Int($1), $2) },
      attention_f64: { HereKernels.attention(HereKernels.F64.self, $0, Int($1), $2) },
      attention_join_f32: { HereKernels.joinSpans(HereKernels.F32.self, $0, Int($1), $2) },
      attention_join_f64: { HereKernels.joinSpans(HereKernels.F64.self, $0, Int($1), $2) },
      tile_f32: Int64(HereKernels.tileLanes(HereKernels.F32.self)),
      tile_f64: Int64(HereKernels.tileLanes(HereKernels.F64.self)),
      merge_f32: {
        HereKernels.mergeRows(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      merge_f64: {
        HereKernels.mergeRows(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3)
      },
      attention_vjp_f32: { HereKernels.attentionVjp(HereKernels.F32.self, $0, Int($1), $2) },
      attention_vjp_f64: { HereKernels.attentionVjp(HereKernels.F64.self, $0, Int($1), $2) },
      linear_loss_f32: { HereKernels.linearLoss(HereKernels.F32.self, $0, Int($1), $2) },
      linear_loss_f64: { HereKernels.linearLoss(HereKernels.F64.self, $0, Int($1), $2) },
      cross_entropy_f32: {
        HereKernels.crossEntropyRows(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      cross_entropy_f64: {
        HereKernels.crossEntropyRows(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3)
      },
      divergence_f32: {
        HereKernels.divergenceRows(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      divergence_f64: {
        HereKernels.divergenceRows(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3)
      },
      exponential: { HereKernels.exponential($0) },
      largest_f32: { HereKernels.largest(HereKernels.F32.self, $0, Int($1), $2, $3) },
      largest_f64: { HereKernels.largest(HereKernels.F64.self, $0, Int($1), $2, $3) },
      bound_f32: { HereKernels.bound(HereKernels.F32.self, $0, Int($1), $2) },
      bound_f64: { HereKernels.bound(HereKernels.F64.self, $0, Int($1), $2) },
      select_f32: { HereKernels.select(HereKernels.F32.self, $0, $1, $2) },
      select_f64: { HereKernels.select(HereKernels.F64.self, $0, $1, $2) },
      weigh_f32: { HereKernels.weigh(HereKernels.F32.self, $0, $1, $2, $3, $4) },
      weigh_f64: { HereKernels.weigh(HereKernels.F64.self, $0, $1, $2, $3, $4) },
      keep_f32: { HereKernels.keep(HereKernels.F32.self, $0, $1, $2) },
      keep_f64: { HereKernels.keep(HereKernels.F64.self, $0, $1, $2) },
      weigh_list: { HereKernels.weighList($0, Int($1), $2, $3) },
      rank: { HereKernels.rank($0, Int($1), $2) },
      gumbel_f32: { HereKernels.gumbel(HereKernels.F32.self, $0, Int($1), $2) },
      gumbel_f64: { HereKernels.gumbel(HereKernels.F64.self, $0, Int($1), $2) },
      log: { HereKernels.log($0) },
      sigmoid_f32: {
        HereKernels.sigmoid(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      sigmoid_f64: {
        HereKernels.sigmoid(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3)
      },
      log_prob_f32: {
        HereKernels.logProbability(HereKernels.F32.self, $0, Int($1), of: Int($2), $3)
      },
      log_prob_f64: {
        HereKernels.logProbability(HereKernels.F64.self, $0, Int($1), of: Int($2), $3)
      },
      plackett_luce: { HereKernels.plackettLuce($0, Int($1), ranked: Int($2)) },
      judge_f32: {
        HereKernels.judge(HereKernels.F32.self, $0, first: Int($1), count: Int($2), $3)
      },
      judge_f64: { HereKernels.judge(HereKernels.F64.self, $0, first: Int($1), count: Int($2), $3) }
    )
  }
}

// Cross-entropies of rows that do not lie along memory: in panels (RowPanels.swift), and those of
// few elements that lie side by side straight from there into the lanes (FewElements.swift): of 21
// classes 5.1 ms, now 4.4, with their gradient 9.3, now 6.5 (8 × 21 × 16384 float32 over axis 1,
// one thread of a Xeon, turned twice before).

import CSupport

extension Kernels {
  /// Rows first ..< first + count of a job with panels; what else belongs to its rows is found
  /// where it lies, at equal distances.
  @inline(never)
  static func lossesInPanels<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) where L.Eight == F64 {
    let logits = smxk_logits_of(job)
    // Rows of few elements stay where they are, or narrow ones side by side in the panel.
    let isFew = hasFewBeside(L.self, job)
    let staysInPlace = isFew && isOwn(L.self, logits.pointee.dtype)
    let panel = RowPanel<L>(logits, scratch, isBeside: isFew && !staysInPlace)
    var axes = InlineArray<3, smxk_axis>(repeating: smxk_axis())
    var own = job.pointee
    withUnsafeMutablePointer(to: &axes) { axes in
      let axes = UnsafeMutableRawPointer(axes).assumingMemoryBound(to: smxk_axis.self)
      own.logits = panelJob(panel, logits, outer: axes, inner: axes + 1)
      withUnsafeMutablePointer(to: &own) { own in
        var row = first
        while row < first &+ count {
          var rows = enterRows(
            job, own, axes + 2, first: row, count: Swift.min(panel.rows, first &+ count &- row),
            scratch)
          if staysInPlace {
            rows = enterBeside(logits, &own.pointee.logits, axes, first: row, count: rows, scratch)
          } else {
            fill(panel, logits, first: row, count: rows, scratch)
          }
          lossesInPlace(L.self, own, first: 0, count: rows, scratch)
          if job.pointee.has_grad != 0 && !staysInPlace {
            empty(panel, logits, first: row, count: rows, scratch)
          }
          row = row &+ rows
        }
      }
    }
  }

  /// Makes rows `first` and up to `count` in all the rows 0, 1, … of `own`; returns how many lie at
  /// equal distances.
  @inline(__always)
  static func enterRows(
    _ job: UnsafePointer<smxk_cross_entropy>, _ own: UnsafeMutablePointer<smxk_cross_entropy>,
    _ axis: UnsafeMutablePointer<smxk_axis>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int {
    let rows = smxk_rows_of(job)
    let place = row(of: scratch)
    axis.pointee = rows.pointee.outer![Int(rows.pointee.outer_count) &- 1]
    locate(rows, place, first)
    own.pointee.rows.outer = UnsafePointer(axis)
    own.pointee.rows.outer_count = 1
    own.pointee.rows.x = UnsafeRawPointer(place.pointee.x!)
    own.pointee.rows.out = UnsafeMutableRawPointer(place.pointee.out!)
    own.pointee.rows.sign = UnsafeMutableRawPointer(place.pointee.sign)
    own.pointee.rows.bias = UnsafeRawPointer(place.pointee.bias)
    // Sums of rows are kept by their numbers from here on.
    own.pointee.first = job.pointee.first &- Int64(first)
    return Swift.min(count, Int(axis.pointee.count) &- first % Int(axis.pointee.count))
  }

  /// Whether a job's rows lie side by side and are taken from there into the lanes.
  @inline(__always)
  static func hasFewBeside<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_cross_entropy>
  ) -> Bool {
    let logits = smxk_logits_of(job)
    let last = logits.pointee.outer![Int(logits.pointee.outer_count) &- 1]
    let size = Int64(itemSize(logits))
    let isAtOne = job.pointee.temperature == 1
    let isInLanes = isAtOne ? !asks(job) || I.hasWideTiles : areScaled(L.self, job)
    return I.hasFastPaths && job.pointee.is_log == 0 && isInLanes
      && Int(logits.pointee.cols) <= FewElements<L>.most && Int(last.count) >= L.count
      && Int(logits.pointee.panel_rows) >= L.count && last.x == size
      && (job.pointee.has_grad == 0 || last.out == size)
  }

  /// Makes rows `first` and up to `count` in all, as far as they lie side by side, the rows 0, 1, …
  /// of `own`; returns how many they are.
  @inline(__always)
  static func enterBeside(
    _ job: UnsafePointer<smxk_job>, _ own: UnsafeMutablePointer<smxk_job>,
    _ axes: UnsafeMutablePointer<smxk_axis>, first: Int, count: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Int {
    let place = row(of: scratch)
    locate(job, place, first)
    axes[0] = job.pointee.outer![Int(job.pointee.outer_count) &- 1]
    axes[1] = job.pointee.inner![0]
    own.pointee.direct = SMXK_DIRECT_COLUMNS
    own.pointee.x = UnsafeRawPointer(place.pointee.x!)
    own.pointee.out = UnsafeMutableRawPointer(place.pointee.out!)
    let adjacent = Int(axes[0].count)
    return Swift.min(count, adjacent &- first % adjacent)
  }
}

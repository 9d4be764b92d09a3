// Which rows are worked on in panels (RowPanels.swift), and how many at a time.

import CSupport
import CSwiftmax

/// How many rows of a call are worked on in a panel; 0 where they are better left where they lie.
func panelRows(_ o: Operands, _ job: smxk_job) -> Int64 {
  let isOfRows = o.weights == nil || isGradient(job.operation)
  guard isOfRows, o.mask == nil, o.bias == nil, o.sign == nil, o.factor == nil, o.structure == nil
  else {
    return 0
  }
  for i in 0..<Int(job.outer_count) where job.outer[i].temperature != 0 { return 0 }
  return panelRows(job, operands: isGradient(job.operation) ? 2 : 1)
}

/// The same of rows without a mask, a bias or anything else that has to be read beside them.
func panelRows(_ job: smxk_job, operands: Int64) -> Int64 {
  let size = Int64(itemSize(job.dtype))
  let wide = max(size, 4)
  let last = job.outer[Int(job.outer_count) - 1]
  guard job.inner_count == 1, job.rows >= fewestPanelRows, job.cols > 0 else { return 0 }
  if job.direct == SMXK_DIRECT_COLUMNS {
    // Their vectors of rows are mostly whole, or their rows few elements. (Of float64, 40 elements
    // and 24 rows take 1.4 ns an element there and 2.3 in panels, with 16 rows 2.6 and 2.1.)
    // Panels turn three operands of a gradient: 16 rows of 150 elements take 0.5 ns an element here
    // and 1.0 there.
    if last.count >= 64 || job.cols <= 64 || operands > 1 { return 0 }
  } else if job.direct != SMXK_DIRECT_NONE && job.direct != SMXK_DIRECT_OUT {
    // Of no more elements than lanes, and not one behind the other.
    let isDense = job.outer_count == 1 && last.x == job.cols &* size
    if isDense || job.cols > 64 / wide { return 0 }
  } else if last.x != size && job.cols > (wide == 8 ? 160 : 512) {
    // Longer ones gain nothing by it where no other lies beside them.
    return 0
  }
  let rows = smxk_panel_rows(job.cols, wide, operands)
  return rows < fewestPanelRows ? 0 : rows
}

/// Of fewer rows a line of memory that they lie in side by side is still read once for nearly each,
/// and turning them gains nothing.
private let fewestPanelRows: Int64 = 4

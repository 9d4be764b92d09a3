// What the filters leave of one row.
//
// Largest first, and of equal ones the first, is the order of all filters, so what they leave is
// always the first so many elements of it: a cut. Nearly always these few also fit into a list,
// which one scan against a rising threshold has found; otherwise the cut is found by histograms
// (Cut.swift), and the row is scanned again by whoever needs it.

import CSupport

/// The filters of one row.
struct Filter {
  var temperature = 1.0
  /// 0 for all.
  var topK: Int64 = 0
  var topP = 1.0
  var minP = 0.0

  /// Below, no two different numbers have a difference that 1/T would not carry beyond every
  /// weight's end.
  var isGreedy: Bool { temperature < 0x1p-960 }
}

/// The elements left: those above the value, and those equal to it up to the place.
struct Cut {
  var value = -Double.infinity
  var place: Int64 = -1
}

/// Elements that a list in a thread's scratch holds after a selection, half of its room.
let listedAtMost = 1024

/// How many of the largest are looked at before a filter needs more: what top_p and min_p leave of
/// a language model's distribution nearly always.
private let firstLook = 256

enum RowKind {
  case good
  /// Nothing above -inf that is visible.
  case empty
  /// A NaN or +inf that is visible.
  case invalid
}

/// One row, in a thread's scratch, and what has been found out about it.
struct RowChoice {
  let kernels: UnsafePointer<smxk_kernels>
  let job: UnsafePointer<smxk_job>
  let scratch: UnsafeMutablePointer<smxk_scratch>
  var list: CandidateList
  var exponent = smxk_exponent(before: 1, base: 0, factor: 1)
  var maximum = 0.0
  /// Whether the list is all that is left, in the order of the row.
  var isListed = false
  var cut = Cut()

  var cols: Int64 { job.pointee.cols }
  var isWide: Bool { job.pointee.dtype == smx_dtype(SMX_FLOAT64) }

  /// Half of the first room of scratch, behind what the kernels use of it: a copy of the list,
  /// buckets or sums.
  var room: UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(smxk_high_of(scratch)) + Int(SMXK_SCRATCH_BYTES) / 4
  }
  /// The weights of the block last weighed.
  var weights: UnsafeMutablePointer<UInt64> {
    (UnsafeMutableRawPointer(smxk_high_of(scratch)) + Int(SMXK_NUMBERS_BYTES)).assumingMemoryBound(
      to: UInt64.self)
  }

  /// Row `index` of a job, with a list of the size that a thread's scratch has room for, or the
  /// given one.
  init(
    _ kernels: UnsafePointer<smxk_kernels>, _ job: UnsafePointer<smxk_job>,
    _ scratch: UnsafeMutablePointer<smxk_scratch>, _ index: Int64, list: CandidateList? = nil
  ) {
    self.kernels = kernels
    self.job = job
    self.scratch = scratch
    let values = UnsafeMutableRawPointer(smxk_low_of(scratch))
    let copy = UnsafeMutableRawPointer(smxk_high_of(scratch)) + Int(SMXK_SCRATCH_BYTES) / 4
    self.list =
      list
      ?? CandidateList(
        values: values.assumingMemoryBound(to: Double.self),
        places: (values + Int(SMXK_SCRATCH_BYTES) / 4).assumingMemoryBound(to: Int64.self),
        copy: copy.assumingMemoryBound(to: Double.self), capacity: 2 * listedAtMost)
    kernels.pointee.begin_row(job, smxk_row_of(scratch), index)
  }

  // -- scans --------------------------------------------------------------------------------------

  /// The largest number of x's type below a value of that type.
  func below(_ value: Double) -> Double { isWide ? value.nextDown : Double(Float(value).nextDown) }

  func scan(_ s: inout smxk_selection) {
    isWide
      ? kernels.pointee.select_f64(job, &s, scratch) : kernels.pointee.select_f32(job, &s, scratch)
  }

  func selection(above threshold: Double, from: Int64 = 0) -> smxk_selection {
    smxk_selection(
      at: from, to: cols, threshold: threshold, count: 0, capacity: Int64(list.capacity),
      values: list.values,
      places: list.places)
  }

  /// Fills the list with the k largest in the order of the filters, of a row that has few and is
  /// not longer than a block; false where a number is not below +inf.
  mutating func selectInOrder(_ k: Int) -> Bool {
    var s = selection(above: -.infinity)
    let largest = isWide ? kernels.pointee.largest_f64 : kernels.pointee.largest_f32
    let isValid = largest(job, Int64(k), &s, scratch) != 0
    list.count = min(Int(s.count), k)
    return isValid
  }

  /// Fills the list with the k largest, k at most half of the list's room, or where it does not
  /// trim with some more if these are all; false where a number is not below +inf.
  mutating func select(_ k: Int, trims: Bool = true) -> Bool {
    let bound =
      isWide
      ? kernels.pointee.bound_f64(job, Int64(k), scratch)
      : kernels.pointee.bound_f32(job, Int64(k), scratch)
    var s = selection(above: below(bound))
    // A short list sooner has a threshold that keeps most of the row away.
    s.capacity = Int64(min(list.capacity, max(2 * k, firstLook) + Int(SMXK_SELECTED_AT_ONCE)))
    while true {
      scan(&s)
      list.count = Int(s.count)
      if !list.isFinite() { return false }
      let isEnough = !trims && s.at >= cols && list.count <= Int(SMXK_RANKED)
      if list.count > k && !isEnough {
        s.threshold = list.keepLargest(k, kernels)
        s.count = Int64(k)
      }
      if s.at >= cols { return true }
    }
  }

  /// Fills the list with all that the cut leaves; false if that is too much.
  mutating func listAll() -> Bool {
    var s = selection(above: cut.place >= 0 ? below(cut.value) : cut.value)
    s.capacity = Int64(min(list.capacity, listedAtMost + Int(SMXK_SELECTED_AT_ONCE)))
    scan(&s)
    if s.at < cols { return false }
    list.count = Int(s.count)
    var to = 0
    for i in 0..<list.count where list.values[i] > cut.value || list.places[i] <= cut.place {
      list.values[to] = list.values[i]
      list.places[to] = list.places[i]
      to += 1
    }
    list.count = to
    return to <= listedAtMost
  }

  // -- weights ------------------------------------------------------------------------------------

  mutating func setExponent(_ temperature: Double) {
    maximum = list.largest()
    // A quarter of x where x - max could overflow and T be so large that it matters.
    let before = temperature > 1 ? 0.25 : 1.0
    exponent.before = before
    exponent.base = maximum * before
    exponent.factor = 0x1.71547652b82fep0 / (temperature * before)
  }

  /// log2 of the weight of x.
  func logWeight(_ x: Double) -> Double { (x * exponent.before - exponent.base) * exponent.factor }

  /// Weights of elements from ..< to, within a block; returns their sum.
  func weigh(from: Int64, to: Int64) -> UInt64 {
    // Up to the cut's place its value counts, behind it no longer.
    let split = min(max(cut.place + 1, from), to)
    var sum: UInt64 = 0
    if split > from { sum = weigh(from: from, to: split, above: below(cut.value), weights) }
    if to > split {
      sum += weigh(from: split, to: to, above: cut.value, weights + Int(split - from))
    }
    return sum
  }

  private func weigh(
    from: Int64, to: Int64, above: Double, _ weights: UnsafeMutablePointer<UInt64>
  ) -> UInt64 {
    var block = smxk_block(from: from, to: to, threshold: above, hidden: 0)
    var e = exponent
    return isWide
      ? kernels.pointee.weigh_f64(job, &block, &e, weights, scratch)
      : kernels.pointee.weigh_f32(job, &block, &e, weights, scratch)
  }

  /// The weight of all that is left.
  func mass() -> Mass {
    var total = Mass()
    var from: Int64 = 0
    while from < cols {
      let to = min(from + Int64(SMXK_BLOCK), cols)
      total.add(weigh(from: from, to: to))
      from = to
    }
    return total
  }

  // -- the filters --------------------------------------------------------------------------------

  mutating func choose(_ filter: Filter) -> RowKind {
    let isAll = filter.topK <= 0 || filter.topK >= cols
    let limit = filter.isGreedy ? min(cols, 1) : isAll ? cols : filter.topK
    let filters = limit < cols || filter.topP < 1 || filter.minP > 0
    let wanted = !filters ? 1 : limit <= Int64(listedAtMost) ? Int(limit) : firstLook
    if !select(max(wanted, 1)) { return .invalid }
    if list.count == 0 { return .empty }
    setExponent(filter.isGreedy ? 1 : filter.temperature)
    isListed = Int64(wanted) == limit || list.count < wanted
    if !filters && !isListed { return .good }

    let leastLog =
      filter.minP > 0
      ? kernels.pointee.log(max(filter.minP, 0x1p-1000)) * 0x1.71547652b82fep0 : -.infinity
    if isListed {
      if filter.topP < 1 { _ = trim(to: listMass().share(filter.topP)) }
    } else {
      if limit < cols {
        cut = rankCut(limit)
        // The histograms have taken the list's room.
        _ = select(firstLook)
      }
      if filter.topP < 1 {
        let total = mass()
        let need = total.share(filter.topP)
        isListed = trim(to: need)
        if !isListed { cut = massCut(need, of: total) }
      } else if logWeight(list.last().value) < leastLog {
        // min_p alone, and it reaches less far than the list.
        isListed = true
      }
    }
    if !isListed {
      if filter.minP > 0 { raiseCut(toLogWeight: leastLog) }
      isListed = listAll()
    } else if filter.minP > 0 {
      dropBelow(logWeight: leastLog)
    }
    if isListed {
      let last = list.last()
      cut = Cut(value: last.value, place: last.place)
    }
    return .good
  }

  private func listMass() -> Mass {
    let weights = UnsafeMutableRawPointer(list.copy).assumingMemoryBound(to: UInt64.self)
    weighList(list.values, list.count, weights)
    var total = Mass()
    for i in 0..<list.count { total.add(weights[i]) }
    return total
  }

  func weighList(
    _ values: UnsafePointer<Double>, _ count: Int, _ weights: UnsafeMutablePointer<UInt64>
  ) {
    var e = exponent
    kernels.pointee.weigh_list(values, Int64(count), &e, weights)
  }

  /// Leaves as many of the largest in the list as have this weight; false if all of them have less.
  /// By quickselect: weights are whole numbers, so their sum does not depend on the order, and none
  /// but what lies around the cut has to be sorted (256 rows of 1000 near one another, top_p 0.9,
  /// one thread: all sorted 21 ms, now 4.8).
  private mutating func trim(to need: Mass) -> Bool {
    let values = list.values + listedAtMost
    for i in 0..<list.count { values[i] = list.values[i] }
    let weights = UnsafeMutableRawPointer(list.copy).assumingMemoryBound(to: UInt64.self)
    weighList(values, list.count, weights)
    /// Of all that comes before places low..<high.
    var sum = Mass()
    var low = 0
    var high = list.count
    // Bad pivots end in a sort.
    var rounds = 0
    while high - low > 16 && rounds < 32 {
      rounds += 1
      let (a, b, c) = (values[low], values[(low + high) / 2], values[high - 1])
      let pivot = max(min(a, b), min(max(a, b), c))
      let larger = bringForward(values, weights, low, high) { $0 > pivot }
      let smaller = bringForward(values, weights, larger, high) { $0 == pivot }
      var upper = sum
      for i in low..<larger { upper.add(weights[i]) }
      if !upper.isBelow(need) {
        high = larger
        continue
      }
      for i in larger..<smaller {
        upper.add(weights[i])
        if !upper.isBelow(need) {
          list.keep(pivot, ties: i - larger + 1)
          return true
        }
      }
      sum = upper
      low = smaller
    }
    sortDescending(values + low, nil, high - low)
    weighList(values + low, high - low, weights)
    var ties = 0
    for i in low..<high {
      ties = i > low && values[i] == values[i - 1] ? ties + 1 : 1
      sum.add(weights[i - low])
      if !sum.isBelow(need) {
        list.keep(values[i], ties: ties)
        return true
      }
    }
    return false
  }

  private mutating func dropBelow(logWeight least: Double) {
    var to = 0
    for i in 0..<list.count where logWeight(list.values[i]) >= least {
      list.values[to] = list.values[i]
      list.places[to] = list.places[i]
      to += 1
    }
    list.count = to
  }
}

/// Brings those of places low..<high whose value `belongs` to their front, in tandem with their
/// weights, without a branch; returns where they end.
@inline(__always)
private func bringForward(
  _ values: UnsafeMutablePointer<Double>, _ weights: UnsafeMutablePointer<UInt64>, _ low: Int,
  _ high: Int, _ belongs: (Double) -> Bool
) -> Int {
  var end = low
  for i in low..<high {
    let (value, weight) = (values[i], weights[i])
    values[i] = values[end]
    weights[i] = weights[end]
    values[end] = value
    weights[end] = weight
    end += belongs(value) ? 1 : 0
  }
  return end
}

// A list of elements of a row: the largest ones so far, in the order of the row.
//
// Largest first, and of equal ones the first: `keepLargest` leaves the first k of that order. Of a
// few it counts what comes before each; of more it finds the k-th largest value by quickselect in a
// copy and then filters the list in place, so that the order of the row stays.

import CSupport

struct CandidateList {
  /// Room for `capacity` of each; the upper halves are free while the list fills a lower half only.
  let values: UnsafeMutablePointer<Double>
  let places: UnsafeMutablePointer<Int64>
  let copy: UnsafeMutablePointer<Double>
  let capacity: Int
  var count = 0

  /// Whether every value is a number below +inf.
  func isFinite() -> Bool {
    for i in 0..<count where !(values[i] - values[i] == 0) { return false }
    return true
  }

  func largest() -> Double {
    var result = values[0]
    for i in 1..<max(count, 1) where values[i] > result { result = values[i] }
    return result
  }

  /// The last in the order of the filters: the smallest value, and the last place that has it.
  func last() -> (value: Double, place: Int64) {
    var result = (value: values[0], place: places[0])
    for i in 1..<max(count, 1) where values[i] <= result.value { result = (values[i], places[i]) }
    return result
  }

  /// How many come before each, to `copy`; nil where they are too many to be counted.
  func ranks(_ kernels: UnsafePointer<smxk_kernels>) -> UnsafePointer<Double>? {
    if count > Int(SMXK_RANKED) { return nil }
    kernels.pointee.rank(values, Int64(count), copy)
    return UnsafePointer(copy)
  }

  /// Leaves the k largest, 1 or more; returns the smallest of them.
  mutating func keepLargest(_ k: Int, _ kernels: UnsafePointer<smxk_kernels>) -> Double {
    if let ranks = ranks(kernels) { return keep(ranks, below: Double(k)) }
    for i in 0..<count { copy[i] = values[i] }
    let bound = select(k)
    var above = 0
    for i in 0..<count where values[i] > bound { above += 1 }
    keep(bound, ties: k - above)
    return bound
  }

  /// Leaves those of a rank below k; returns the smallest of them. Without a branch.
  private mutating func keep(_ ranks: UnsafePointer<Double>, below k: Double) -> Double {
    var smallest = Double.infinity
    var to = 0
    for i in 0..<count {
      let isKept = ranks[i] < k
      let value = values[i]
      values[to] = value
      places[to] = places[i]
      smallest = isKept && value < smallest ? value : smallest
      to += isKept ? 1 : 0
    }
    count = to
    return smallest
  }

  /// Leaves what is above the bound, and the first `ties` of those equal to it.
  mutating func keep(_ bound: Double, ties: Int) {
    var left = ties
    var to = 0
    for i in 0..<count {
      let value = values[i]
      if value < bound { continue }
      if value == bound {
        if left == 0 { continue }
        left -= 1
      }
      values[to] = value
      places[to] = places[i]
      to += 1
    }
    count = to
  }

  /// The k-th largest number of the copy, by Hoare's quickselect; a heap sorts what is left where
  /// the pivots are bad.
  private func select(_ k: Int) -> Double {
    var low = 0
    var high = count - 1
    let target = k - 1
    var rounds = 0
    while high - low > 8 && rounds < 64 {
      rounds += 1
      let a = copy[low]
      let b = copy[(low + high) / 2]
      let c = copy[high]
      let pivot = max(min(a, b), min(max(a, b), c))
      var i = low
      var j = high
      while i <= j {
        while copy[i] > pivot { i += 1 }
        while copy[j] < pivot { j -= 1 }
        if i <= j {
          swap(copy, i, j)
          i += 1
          j -= 1
        }
      }
      if target <= j { high = j } else if target >= i { low = i } else { return pivot }
    }
    sortDescending(copy + low, nil, high - low + 1)
    return copy[target]
  }
}

private func swap<T>(_ p: UnsafeMutablePointer<T>, _ i: Int, _ j: Int) {
  let value = p[i]
  p[i] = p[j]
  p[j] = value
}

/// Heapsort: values largest first, and of equal ones the lower place first.
func sortDescending(
  _ values: UnsafeMutablePointer<Double>, _ places: UnsafeMutablePointer<Int64>?, _ count: Int
) {
  /// Whether i comes behind j.
  func isBehind(_ i: Int, _ j: Int) -> Bool {
    if values[i] != values[j] { return values[i] < values[j] }
    return places.map { $0[i] > $0[j] } ?? false
  }
  // The root of the heap is the last in the order.
  func sink(_ from: Int, _ end: Int) {
    var parent = from
    while 2 * parent + 1 < end {
      var child = 2 * parent + 1
      if child + 1 < end && isBehind(child + 1, child) { child += 1 }
      if !isBehind(child, parent) { return }
      swap(values, parent, child)
      if let places { swap(places, parent, child) }
      parent = child
    }
  }
  var start = count / 2
  while start > 0 {
    start -= 1
    sink(start, count)
  }
  var end = count
  while end > 1 {
    end -= 1
    swap(values, 0, end)
    if let places { swap(places, 0, end) }
    sink(0, end)
  }
}

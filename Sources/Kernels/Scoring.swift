// Log-probabilities of choices: of one element of a row.

import CSupport

extension Kernels {
  /// log_softmax of the job's row `index` at one of its elements: the row passes through the stages
  /// of Softmax.swift up to the last, which is then done for that element alone. NaN, or a number
  /// of L.
  public static func logProbability<L: Lanes>(
    _: L.Type, _ job: UnsafePointer<smxk_job>, _ index: Int, of token: Int,
    _ scratch: UnsafeMutablePointer<smxk_scratch>
  ) -> Double {
    let row = row(of: scratch)
    beginRow(job, row, index)
    row.pointee.resident = job.pointee.cols <= chunkSize ? 1 : 0
    while row.pointee.stage != SMXK_FINISH {
      visitChunks(L.self, job, row, scratch)
      advance(L.self, job, row)
    }
    if row.pointee.form == SMXK_CONSTANT { return row.pointee.constant }
    let axis = job.pointee.inner![0]
    let isHidden = row.pointee.mask != nil && row.pointee.mask![token &* Int(axis.mask)] == 0
    let x =
      isHidden
      ? -Double.infinity
      : readScalar(job.pointee.dtype, UnsafeRawPointer(row.pointee.x!) + token &* Int(axis.x))
    return Double(
      logProbability(
        row.pointee.form, scaledExp(L.self, row), L(L.Scalar(x)), L(0),
        L(L.Scalar(row.pointee.log_sum)),
        L(L.Scalar(row.pointee.maximum)))[0])
  }
}

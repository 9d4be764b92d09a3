import CSwiftmax

let x: [Float] = [2, 1, 0.1]
var y = x
guard smx_softmax_f32(x, &y, 1, 3) == SMX_OK else { fatalError(String(cString: smx_last_error())) }
print(y)

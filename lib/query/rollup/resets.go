package rollup

// undoResets makes a counter grow over its resets, in place. Small drops count
// as rounding of a counter spread over several sources: the counter stays flat.
// After a gap longer than the lookback plus the window the counter starts anew.
func undoResets(times []int64, values []float64, lookback, window int64) {
	if len(values) == 0 {
		return
	}
	correction := 0.0
	previous := values[0]
	for i := 1; i < len(values); i++ {
		v := values[i]
		if lookback > 0 && times[i]-times[i-1] > lookback+window {
			correction = 0
			previous = v
			continue
		}
		if v < previous {
			correction += Drop(previous, v)
		}
		previous = v
		values[i] = max(v+correction, values[i-1])
	}
}

// Drop returns what has to be added to a counter that fell from previous to v: a
// fall of less than an eighth is partial and only evened out, any other is a restart at 0.
func Drop(previous, v float64) float64 {
	if fall := previous - v; fall*8 < previous {
		return fall
	}
	return previous
}

// preKind says what is done to the samples before windows are cut.
type preKind uint8

const (
	preNone   preKind = iota
	preDelta          // difference to the next sample
	preDeriv          // the same per second
	preGap            // seconds since the sample before
	preKinds  = 4
	oneSecond = 1000
)

// preprocess returns the values that windows of an output are cut from.
func (e *Evaluator) preprocess(kind preKind, times []int64, values []float64) []float64 {
	if kind == preNone {
		return values
	}
	out := e.pre[kind]
	if len(out) > 0 {
		return out // made for an earlier output of the same series
	}
	switch kind {
	case preDelta, preDeriv:
		out = appendDifferences(out, times, values, kind == preDeriv)
	case preGap:
		out = appendGaps(out, times)
	}
	e.pre[kind] = out
	return out
}

func appendDifferences(dst []float64, times []int64, values []float64, perSecond bool) []float64 {
	d := 0.0
	for i := 1; i < len(values); i++ {
		if dt := times[i] - times[i-1]; !perSecond {
			d = values[i] - values[i-1]
		} else if dt > 0 {
			d = (values[i] - values[i-1]) / seconds(dt)
		}
		dst = append(dst, d)
	}
	return append(dst, d)
}

func appendGaps(dst []float64, times []int64) []float64 {
	if len(times) == 1 {
		return append(dst, nan())
	}
	dst = append(dst, seconds(times[1]-times[0]))
	for i := 1; i < len(times); i++ {
		dst = append(dst, seconds(times[i]-times[i-1]))
	}
	return dst
}

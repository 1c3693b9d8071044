package rollup

import "slices"

// firstReset returns the index of the first sample that a counter falls to; the number of samples when there is none. A fall over a
// gap longer than the longest, if gaps count, is none: the counter starts anew. After a reset which is known from before, all samples count.
func firstReset(times []int64, values []float64, longest int64, gaps bool, past Carry) int {
	if past.Known && past.Fell {
		return 1
	}
	previous := values[0]
	if past.Known {
		previous = past.Raw
	}
	for i := 1; i < len(values); i++ {
		v := values[i]
		if v < previous && !(gaps && times[i]-times[i-1] > longest) {
			return i
		}
		previous = v
	}
	return len(values)
}

// undoResets returns the values of a counter as they would be without resets, of which the given one is the first, in memory which the next call uses again. Small drops count
// as rounding of a counter spread over several sources: the counter stays flat.
// After a gap longer than the lookback plus the window the counter starts anew. It also returns the
// correction at the sample which facts are carried over from.
func (e *Evaluator) undoResets(times []int64, raw []float64, first int) (values []float64, carried float64) {
	e.undone = append(e.undone[:0], raw[:first]...)
	values = slices.Grow(e.undone, len(raw)-first)[:len(raw)]
	e.undone = values
	past := e.carry()
	correction, previous := past.correction, values[first-1]
	if past.Known && first == 1 {
		previous = past.Raw
	}
	at := -1
	if e.watch != nil {
		at = before(times, e.watch.From)
	}
	if at < first {
		carried = correction
	}
	longest := e.p.Lookback + e.p.Window
	gaps := e.p.Lookback > 0 && e.column.longestGap() > longest
	last := values[first-1] // as it is without resets; previous as it was
	for i := first; i < len(raw); {
		start, v := i, raw[i]
		if gaps && times[i]-times[i-1] > longest {
			correction, last = 0, v
		} else {
			if v < previous {
				correction += Drop(previous, v)
			}
			last = max(v+correction, last)
		}
		values[i], previous = last, v
		if i++; !gaps && last == v+correction {
			i += grow(values[i:], raw[i:], v, correction)
			last, previous = values[i-1], raw[i-1]
		}
		if start <= at && at < i {
			carried = correction
		}
	}
	return values, carried
}

// grow corrects the values until one falls, and returns how many these are. They are not below the one before, so they are not below it
// when they are corrected, either.
func grow(dst, raw []float64, previous, correction float64) int {
	dst = dst[:len(raw)]
	for i, v := range raw {
		if !(v >= previous) {
			return i
		}
		dst[i] = v + correction
		previous = v
	}
	return len(raw)
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

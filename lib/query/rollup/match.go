package rollup

// matchFunc returns functions of the values that compare with an argument.
func matchFunc(name string) func(*window) float64 {
	switch name {
	case "count_eq_over_time":
		return func(w *window) float64 { return w.countMatching(equal) }
	case "count_ne_over_time":
		return func(w *window) float64 { return w.countMatching(notEqual) }
	case "count_le_over_time":
		return func(w *window) float64 { return w.countMatching(atMost) }
	case "count_gt_over_time":
		return func(w *window) float64 { return w.countMatching(above) }
	case "sum_eq_over_time":
		return func(w *window) float64 { return w.sumMatching(equal) }
	case "sum_le_over_time":
		return func(w *window) float64 { return w.sumMatching(atMost) }
	case "sum_gt_over_time":
		return func(w *window) float64 { return w.sumMatching(above) }
	case "share_eq_over_time":
		return func(w *window) float64 { return w.countMatching(equal) / count(w) }
	case "share_le_over_time":
		return func(w *window) float64 { return w.countMatching(atMost) / count(w) }
	case "share_gt_over_time":
		return func(w *window) float64 { return w.countMatching(above) / count(w) }
	}
	return nil
}

func equal(v, arg float64) bool    { return v == arg }
func notEqual(v, arg float64) bool { return v != arg }
func atMost(v, arg float64) bool   { return v <= arg }
func above(v, arg float64) bool    { return v > arg }

func (w *window) countMatching(matches func(v, arg float64) bool) float64 {
	if w.empty() {
		return nan()
	}
	arg := w.arg(0)
	n := 0
	for _, v := range w.values {
		if matches(v, arg) {
			n++
		}
	}
	return float64(n)
}

func (w *window) sumMatching(matches func(v, arg float64) bool) float64 {
	if w.empty() {
		return nan()
	}
	arg := w.arg(0)
	total := 0.0
	for _, v := range w.values {
		if matches(v, arg) {
			total += v
		}
	}
	return total
}

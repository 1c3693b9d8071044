package nativehistogram

// Numbers are what stands for a histogram where there are only numbers: the counts of its buckets, which the label vmrange tells apart, and the count
// and the sum of all observations.
type Numbers struct {
	ranges []Range
	text   []byte
	last   []byte
}

// Each calls use with each of the numbers: with the end of the name of its metric and the value of its label vmrange, which is empty for count and sum and valid during the
// call. Buckets that are empty are left out; of those so narrow that their ranges are written alike, there is one.
func (n *Numbers) Each(h *Histogram, use func(suffix string, vmrange []byte, value float64)) {
	use("_count", nil, h.Total())
	use("_sum", nil, h.Sum)
	n.ranges = h.AppendRanges(n.ranges[:0])
	n.last = n.last[:0]
	count := 0.0
	for _, r := range n.ranges {
		n.text = AppendVMRange(n.text[:0], r.Low, r.High)
		if string(n.text) != string(n.last) {
			if len(n.last) > 0 {
				use("_bucket", n.last, count)
			}
			n.text, n.last, count = n.last, n.text, 0
		}
		count += r.Count
	}
	if len(n.last) > 0 {
		use("_bucket", n.last, count)
	}
}

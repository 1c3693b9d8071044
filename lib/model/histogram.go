package model

// RangeLabel is the name of the label which tells the buckets of a histogram apart whose bounds are a range.
const RangeLabel = "vmrange"

// AppendPartLabels appends the labels of a series of numbers which stands for a part of a native histogram with the given labels: the name of the metric gets a
// suffix, and the range is added unless it is empty.
func AppendPartLabels(dst, labels []Label, suffix, vmrange string) []Label {
	for _, l := range labels {
		switch l.Name {
		case MetricNameLabel:
			l.Value += suffix
		case RangeLabel:
			continue
		}
		dst = append(dst, l)
	}
	if vmrange != "" {
		dst = append(dst, Label{Name: RangeLabel, Value: vmrange})
	}
	return dst
}

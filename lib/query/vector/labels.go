package vector

import (
	"encoding/binary"
	"slices"
	"strings"

	"vmcluster/lib/model"
)

// labelValue returns the value of a label, or of the metric name if it is asked for as __name__.
func labelValue(s *Series, name string) string {
	if name == model.MetricNameLabel {
		return s.Name
	}
	if i, ok := findLabel(s.Labels, name); ok {
		return s.Labels[i].Value
	}
	return ""
}

func findLabel(labels []model.Label, name string) (int, bool) {
	return slices.BinarySearchFunc(labels, name, func(l model.Label, name string) int { return strings.Compare(l.Name, name) })
}

// setLabel sets a label or the metric name. An empty value removes it. Shared label slices are not changed.
func setLabel(s *Series, name, value string) {
	if name == model.MetricNameLabel {
		s.Name = value
		return
	}
	s.Labels = withLabel(s.Labels, name, value)
}

// withLabel returns labels with one of them set, or removed if value is empty.
func withLabel(labels []model.Label, name, value string) []model.Label {
	i, ok := findLabel(labels, name)
	switch {
	case ok && labels[i].Value == value, !ok && value == "":
		return labels
	case value == "":
		return append(slices.Clip(labels[:i]), labels[i+1:]...)
	}
	dst := make([]model.Label, 0, len(labels)+1)
	dst = append(dst, labels[:i]...)
	dst = append(dst, model.Label{Name: name, Value: value})
	if ok {
		i++
	}
	return append(dst, labels[i:]...)
}

// filterLabels returns the labels for which keep is true; the slice itself if that is all of them.
func filterLabels(labels []model.Label, keep func(name string) bool) []model.Label {
	for i, l := range labels {
		if keep(l.Name) {
			continue
		}
		dst := slices.Clone(labels[:i])
		for _, l := range labels[i+1:] {
			if keep(l.Name) {
				dst = append(dst, l)
			}
		}
		return dst
	}
	return labels
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendLabels(dst []byte, labels []model.Label) []byte {
	for i := range labels {
		dst = appendString(dst, labels[i].Name)
		dst = appendString(dst, labels[i].Value)
	}
	return dst
}

// appendLabelsExcept appends the labels but for two names.
func appendLabelsExcept(dst []byte, labels []model.Label, skip1, skip2 string) []byte {
	for i := range labels {
		if l := &labels[i]; l.Name != skip1 && l.Name != skip2 {
			dst = appendString(dst, l.Name)
			dst = appendString(dst, l.Value)
		}
	}
	return dst
}

// appendKey appends the identity of a series: name and labels, each with its length.
func appendKey(dst []byte, s *Series) []byte {
	return appendLabels(appendString(dst, s.Name), s.Labels)
}

// compareKeys orders series by name, then label by label, fewer labels first.
func compareKeys(a, b *Series) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return slices.CompareFunc(a.Labels, b.Labels, func(x, y model.Label) int {
		if c := strings.Compare(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(x.Value, y.Value)
	})
}

// seriesString renders name and labels for messages.
func seriesString(s *Series) string {
	labels := make([]model.Label, 0, len(s.Labels)+1)
	if s.Name != "" {
		labels = append(labels, model.Label{Name: model.MetricNameLabel, Value: s.Name})
	}
	return model.LabelsString(append(labels, s.Labels...))
}

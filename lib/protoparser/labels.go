package protoparser

import (
	"fmt"
	"slices"
	"strings"

	"vmcluster/lib/model"
)

// MaxLabels is how many labels parsers take apart of a series, whatever the configured limits are: their memory is many times that of the text, and storage
// takes no series with so long a key.
const MaxLabels = 10_000

// TooManyLabelsFault is what parsers say of a row with more.
func TooManyLabelsFault() string { return fmt.Sprintf("it has more than %d labels", MaxLabels) }

// MergeNames sorts labels and makes one of those with the same name. It has the last value, or with a separator all of them.
func MergeNames(labels []model.Label, separator string) []model.Label {
	slices.SortStableFunc(labels, func(a, b model.Label) int { return strings.Compare(a.Name, b.Name) })
	merged := labels[:0]
	for start, end := 0, 0; start < len(labels); start = end {
		for end = start + 1; end < len(labels) && labels[end].Name == labels[start].Name; end++ {
		}
		l := labels[end-1]
		if separator != "" && end > start+1 {
			values := make([]string, 0, end-start)
			for _, same := range labels[start:end] {
				values = append(values, same.Value)
			}
			l.Value = strings.Join(values, separator)
		}
		merged = append(merged, l)
	}
	return merged
}

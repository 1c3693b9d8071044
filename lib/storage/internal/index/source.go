package index

import (
	"context"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/model"
)

// A tenantSource answers for the series of one tenant in a head or a segment. Names are
// internal ones: the empty name is the metric name. All its sets are added to idSets.
type tenantSource interface {
	// addAll adds all series.
	addAll(dst *idSet) error
	// addLabel adds the series that have the label.
	addLabel(dst *idSet, name string) error
	// hasAll reports whether all series are in ids.
	hasAll(ids *roaring.Bitmap) (bool, error)
	// hasAllWith reports whether all series that have the label are in ids.
	hasAllWith(name string, ids *roaring.Bitmap) (bool, error)
	// intersects reports whether a series that has the label is in ids.
	intersects(name string, ids *roaring.Bitmap) (bool, error)
	// addValue adds the series that have the label with the value.
	addValue(dst *idSet, name, value string) error
	// addMatching adds the series whose value matches.
	addMatching(ctx context.Context, dst *idSet, m valueMatch) error
	// valueCount returns the number of values of the label.
	valueCount(name string) (int, error)
	// labelNames returns the sorted names.
	labelNames() ([]string, error)
	// values returns a cursor over the sorted values of the label.
	values(name string) (valueCursor, error)
}

// valueMatch selects the values of a label that start with prefix and satisfy match (nil: every one does).
type valueMatch struct {
	name, prefix string
	match        func(string) bool
}

// valueCursor walks over sorted values: next, then value and addIDs.
type valueCursor interface {
	next() (bool, error)
	// value is valid until the next call of next.
	value() string
	addIDs(dst *idSet) error
	// intersects reports whether a series with the value is in ids.
	intersects(ids *roaring.Bitmap) (bool, error)
	// count returns the number of series in ids that have the value.
	count(ids *roaring.Bitmap) (uint64, error)
}

// internalName returns the name under which a label is kept. False means that no series can have it.
func internalName(name string) (string, bool) {
	if name == model.MetricNameLabel {
		return "", true
	}
	return name, name != ""
}

// externalName is the opposite of internalName.
func externalName(name string) string {
	if name == "" {
		return model.MetricNameLabel
	}
	return name
}

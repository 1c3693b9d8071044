package partition

import (
	"testing"

	"vmcluster/lib/model"
)

func TestPickOutdated(t *testing.T) {
	const hour = 3600_000
	keep := model.TimeRange{Min: 100 * hour, Max: 1 << 60}
	for name, c := range map[string]struct {
		min, max, size int64
		want           bool
	}{
		"inside":               {min: 100 * hour, max: 200 * hour},
		"a little outside":     {min: 90 * hour, max: 200 * hour},
		"half outside":         {min: 0, max: 200 * hour, want: true},
		"mostly outside":       {min: 0, max: 101 * hour, want: true},
		"too large":            {min: 0, max: 101 * hour, size: 1001},
		"mostly, by minutes":   {min: 100*hour - 60_000, max: 100*hour + 1},
		"mostly, by two hours": {min: 98 * hour, max: 101 * hour, want: true},
	} {
		parts := []PartInfo{{MinTimestamp: 150 * hour, MaxTimestamp: 160 * hour}, {MinTimestamp: c.min, MaxTimestamp: c.max, SizeBytes: c.size}}
		if got := PickOutdated(parts, keep, 1000) == 1; got != c.want {
			t.Errorf("%s: picked %t; want %t", name, got, c.want)
		}
	}
}

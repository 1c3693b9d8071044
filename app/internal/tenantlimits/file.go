package tenantlimits

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

// Limits are those of one tenant; 0 means none.
type Limits struct {
	SamplesPerSecond  float64
	ConcurrentQueries int
	ActiveSeries      int
	DropExcessSeries  bool // leave samples of series beyond ActiveSeries out, instead of refusing them
}

// table is what a file says.
type table struct {
	tenants  map[model.TenantID]Limits
	fallback Limits // of tenants that are not named
	series   bool   // some have a limit of active series
}

// defaultName stands for all tenants that are not named.
const defaultName = "default"

// parse reads a file: lines of a tenant, or default, and its limits. What follows # is a comment.
func parse(text string) (*table, error) {
	t := &table{tenants: map[model.TenantID]Limits{}}
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if err := t.add(seen, fields); err != nil {
			return nil, errkind.New(errkind.BadRequest, "line %d: %w", number, err)
		}
	}
	return t, nil
}

func (t *table) add(seen map[string]bool, fields []string) error {
	var l Limits
	for _, field := range fields[1:] {
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "samples_per_second":
			l.SamplesPerSecond, err = parseLimit(value)
		case "concurrent_queries":
			l.ConcurrentQueries, err = parseWhole(value)
		case "active_series":
			l.ActiveSeries, err = parseWhole(value)
			t.series = true
		case "excess_series":
			if l.DropExcessSeries = value == "drop"; !l.DropExcessSeries && value != "refuse" {
				err = errors.New("want drop or refuse")
			}
		default:
			return fmt.Errorf("cannot parse limit %q: want samples_per_second=<number>, concurrent_queries=<number>, active_series=<number> or excess_series=drop", field)
		}
		if err != nil {
			return fmt.Errorf("cannot parse limit %q: %w", field, err)
		}
	}
	tenant := model.TenantID{}
	id := defaultName
	if fields[0] != defaultName {
		var err error
		if tenant, err = model.ParseTenantID(fields[0]); err != nil {
			return err
		}
		id = tenant.String()
	}
	if seen[id] {
		return fmt.Errorf("tenant %s has limits already; keep one of the lines", id)
	}
	seen[id] = true
	if id == defaultName {
		t.fallback = l
	} else {
		t.tenants[tenant] = l
	}
	return nil
}

// parseLimit parses a number above 0.
func parseLimit(s string) (float64, error) {
	const most = 1e12
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f > 0 && f <= most) {
		return 0, fmt.Errorf("want a number above 0 and up to %g; leave the limit out for none", most)
	}
	return f, nil
}

// parseWhole parses a whole number above 0.
func parseWhole(s string) (int, error) {
	f, err := parseLimit(s)
	if n := int(f); err != nil || float64(n) == f {
		return n, err
	}
	return 0, errors.New("want a whole number")
}

// of returns the limits of a tenant.
func (t *table) of(id model.TenantID) Limits {
	if l, ok := t.tenants[id]; ok {
		return l
	}
	return t.fallback
}

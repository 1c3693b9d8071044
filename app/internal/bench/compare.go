package bench

import (
	"context"
	"fmt"
	"math"
)

// Diff is how the answers of two servers to a query differ.
type Diff struct {
	Name     string  `json:"name"`
	Error    string  `json:"error,omitempty"`
	Series   int     `json:"series"`
	Missing  int     `json:"series_only_in_first"`
	Extra    int     `json:"series_only_in_second"`
	Points   int     `json:"points"`
	Unpaired int     `json:"points_in_one_only"`
	Unequal  int     `json:"points_unequal"`
	MaxError float64 `json:"max_relative_error"`
	Example  string  `json:"example,omitempty"`
}

// Different reports whether there is any difference.
func (d *Diff) Different() bool { return d.Error != "" || d.Missing+d.Extra+d.Unpaired+d.Unequal > 0 }

// note keeps the first example.
func (d *Diff) note(format string, args ...any) {
	if d.Example == "" {
		d.Example = fmt.Sprintf(format, args...)
	}
}

// Comparison counts the queries whose answers differ.
type Comparison struct {
	Queries   int `json:"queries"`
	Different int `json:"different"`
}

// CompareServers runs a query list against o.URL and o.Compare and compares the
// answers value by value. It calls each after each query.
func CompareServers(ctx context.Context, o QueryOptions, each func(*Diff) error) (*Comparison, error) {
	m, specs, err := o.load()
	if err != nil {
		return nil, err
	}
	c := &Comparison{Queries: len(specs)}
	for i := range specs {
		d := specs[i].diff(ctx, &o, m)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if d.Different() {
			c.Different++
		}
		if err := each(&d); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (q *QuerySpec) diff(ctx context.Context, o *QueryOptions, m *Manifest) Diff {
	first, err := q.answer(ctx, o.URL, m)
	if err != nil {
		return Diff{Name: q.Name, Error: err.Error()}
	}
	second, err := q.answer(ctx, o.Compare, m)
	if err != nil {
		return Diff{Name: q.Name, Error: err.Error()}
	}
	d := compare(first, second, o.Tolerance)
	d.Name = q.Name
	return d
}

func (q *QuerySpec) answer(ctx context.Context, base string, m *Manifest) (points, error) {
	data, _, err := q.fetch(ctx, base, m, true)
	if err != nil {
		return nil, fmt.Errorf("cannot query %s: %w", base, err)
	}
	p, err := q.parse(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the answer of %s: %w", base, err)
	}
	return p, nil
}

// compare counts the differences. Values are equal up to the relative tolerance; two NaNs are equal.
func compare(a, b points, tolerance float64) Diff {
	d := Diff{Series: len(a)}
	for key := range b {
		if _, ok := a[key]; !ok {
			d.Extra++
			d.note("only in second: %s", key)
		}
	}
	for key, values := range a {
		others, ok := b[key]
		if !ok {
			d.Missing++
			d.note("only in first: %s", key)
			continue
		}
		d.compareSeries(key, values, others, tolerance)
	}
	return d
}

func (d *Diff) compareSeries(key string, values, others map[float64]float64, tolerance float64) {
	both := 0
	for t, x := range values {
		y, ok := others[t]
		if !ok {
			d.note("%s at %g: %g, none", key, t, x)
			continue
		}
		both++
		if x == y || math.IsNaN(x) && math.IsNaN(y) {
			continue
		}
		e := math.Abs(x-y) / max(math.Abs(x), math.Abs(y))
		if math.IsNaN(e) || math.IsInf(e, 0) { // one is NaN or infinite; JSON could not hold the error
			e = math.MaxFloat64
		}
		if e > tolerance {
			d.Unequal++
			d.note("%s at %g: %g, %g", key, t, x, y)
		}
		d.MaxError = max(d.MaxError, e)
	}
	if both < len(others) {
		d.note("%s: %d of %d points only in second", key, len(others)-both, len(others))
	}
	d.Points += both
	d.Unpaired += len(values) + len(others) - 2*both
}

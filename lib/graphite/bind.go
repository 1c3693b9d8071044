package graphite

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
)

// Kinds of parameters, by the names Graphite's function catalogue has for them.
const (
	kindSeriesList    = "seriesList"
	kindSeriesLists   = "seriesLists"
	kindString        = "string"
	kindFloat         = "float"
	kindInteger       = "integer"
	kindIntOrInf      = "intOrInf"
	kindInterval      = "interval"
	kindIntOrInterval = "intOrInterval"
	kindBoolean       = "boolean"
	kindAggFunc       = "aggFunc"
	kindNode          = "node"
	kindNodeOrTag     = "nodeOrTag"
	kindTag           = "tag"
	kindDate          = "date"
)

// Param is a parameter of a function.
type Param struct {
	Name     string
	Kind     string
	Required bool
	Multiple bool
	Default  string // as written in a target; empty when there is none
}

func (p *Param) isSeries() bool { return p.Kind == kindSeriesList || p.Kind == kindSeriesLists }

// node is a component of a path, counted from the end when negative, or a tag.
type node struct {
	index int
	tag   string // not empty: a tag
}

// String renders the component for names.
func (n node) String() string {
	if n.tag != "" {
		return quote(n.tag)
	}
	return strconv.Itoa(n.index)
}

// window is an interval, or a number of points.
type window struct {
	ms     int64
	points int
	text   string // as written in names
}

// argument is what a parameter stands for in one call.
type argument struct {
	exprs  []Expr // series
	values []any  // others
}

// bind checks the arguments of a call against the parameters of its function.
func (f *Function) bind(c *Call) (map[string]argument, error) {
	bound := make(map[string]argument, len(f.Params))
	for i, e := range c.Args {
		if len(f.Params) == 0 || i >= len(f.Params) && !f.Params[len(f.Params)-1].Multiple {
			return nil, errkind.New(errkind.BadRequest, "cannot evaluate %s(): it takes at most %d arguments, got %d", f.Name, len(f.Params), len(c.Args))
		}
		if err := f.put(bound, &f.Params[min(i, len(f.Params)-1)], e); err != nil {
			return nil, err
		}
	}
	for _, a := range c.Named {
		i := slices.IndexFunc(f.Params, func(p Param) bool { return p.Name == a.Name })
		if i < 0 {
			return nil, errkind.New(errkind.BadRequest, "cannot evaluate %s(): it has no argument %q; its form is %s", f.Name, a.Name, f.Signature())
		}
		if _, ok := bound[a.Name]; ok {
			return nil, errkind.New(errkind.BadRequest, "cannot evaluate %s(): argument %q is given twice", f.Name, a.Name)
		}
		if err := f.put(bound, &f.Params[i], a.Value); err != nil {
			return nil, err
		}
	}
	return bound, f.complete(bound)
}

// complete puts the defaults for what is missing.
func (f *Function) complete(bound map[string]argument) error {
	for i := range f.Params {
		p := &f.Params[i]
		if _, ok := bound[p.Name]; ok {
			continue
		}
		if p.Required {
			return errkind.New(errkind.BadRequest, "cannot evaluate %s(): argument %q is missing; its form is %s", f.Name, p.Name, f.Signature())
		}
		if p.Default == "" {
			continue
		}
		v, err := convert(p.Kind, String(p.Default))
		if err != nil {
			return err
		}
		bound[p.Name] = argument{values: []any{v}}
	}
	return nil
}

func (f *Function) put(bound map[string]argument, p *Param, e Expr) error {
	if _, none := e.(None); none && !p.Required {
		return nil
	}
	a := bound[p.Name]
	if p.isSeries() {
		switch e.(type) {
		case Path, Number, *Call, evaluated:
			a.exprs = append(a.exprs, e)
		default:
			return f.wrong(p, e, errkind.New(errkind.BadRequest, "want a series"))
		}
	} else {
		v, err := convert(p.Kind, e)
		if err != nil {
			return f.wrong(p, e, err)
		}
		a.values = append(a.values, v)
	}
	bound[p.Name] = a
	return nil
}

func (f *Function) wrong(p *Param, e Expr, err error) error {
	return errkind.New(errkind.BadRequest, "cannot evaluate %s(): argument %s cannot be %s: %w", f.Name, p.Name, Print(e), err)
}

// convert turns a literal into a value: float64, int, string, bool, int64 (of intervals), window or node.
func convert(kind string, e Expr) (any, error) {
	text, number, isNumber := literal(e)
	if text == "" && !isNumber {
		if s, ok := e.(String); !ok || s != "" {
			return nil, errkind.New(errkind.BadRequest, "want a value")
		}
	}
	switch kind {
	case kindFloat:
		if !isNumber {
			return nil, errkind.New(errkind.BadRequest, "want a number")
		}
		return number, nil
	case kindInteger, kindIntOrInf:
		return wholeNumber(kind, number, isNumber)
	case kindBoolean:
		return boolean(text)
	case kindInterval:
		return ParseInterval(text)
	case kindIntOrInterval:
		return parseWindow(e, text, number, isNumber)
	case kindAggFunc:
		if _, ok := aggregatorOf(text); !ok || text == "" {
			return nil, errkind.New(errkind.BadRequest, "want one of %s, or a percentile such as p95", strings.Join(aggregatorNames(), ", "))
		}
		return text, nil
	case kindNode, kindNodeOrTag:
		return parseNode(kind, e, text, number, isNumber)
	}
	return text, nil
}

// literal returns the text of a literal, and its number if it is one.
func literal(e Expr) (text string, number float64, isNumber bool) {
	switch v := e.(type) {
	case String:
		text = string(v)
	case Path:
		text = string(v)
	case Bool:
		text = strconv.FormatBool(bool(v))
	case Number:
		return v.Text, v.Value, true
	}
	f, err := strconv.ParseFloat(text, 64)
	return text, f, err == nil && !math.IsNaN(f)
}

func wholeNumber(kind string, number float64, isNumber bool) (any, error) {
	if kind == kindIntOrInf && math.IsInf(number, 1) {
		return math.MaxInt32, nil
	}
	if !isNumber || number != math.Trunc(number) || math.Abs(number) > math.MaxInt32 {
		return nil, errkind.New(errkind.BadRequest, "want a whole number")
	}
	return int(number), nil
}

func boolean(text string) (any, error) {
	switch strings.ToLower(text) {
	case "true", "1":
		return true, nil
	case "false", "0", "":
		return false, nil
	}
	return nil, errkind.New(errkind.BadRequest, "want true or false")
}

func parseWindow(e Expr, text string, number float64, isNumber bool) (any, error) {
	if isNumber {
		if number < 1 || number != math.Trunc(number) || number > math.MaxInt32 {
			return nil, errkind.New(errkind.BadRequest, "want an interval such as '5min', or a number of points of at least 1")
		}
		return window{points: int(number), text: strconv.Itoa(int(number))}, nil
	}
	ms, err := ParseInterval(text)
	if err != nil {
		return nil, err
	}
	ms = max(ms, -ms)
	if ms < 1 {
		return nil, errkind.New(errkind.BadRequest, "want an interval of at least 1ms")
	}
	return window{ms: ms, text: Print(e)}, nil
}

func parseNode(kind string, e Expr, text string, number float64, isNumber bool) (any, error) {
	_, quoted := e.(String)
	if isNumber && !quoted && number == math.Trunc(number) && math.Abs(number) < math.MaxInt32 {
		return node{index: int(number)}, nil
	}
	if kind == kindNode || text == "" {
		if isNumber && number == math.Trunc(number) && math.Abs(number) < math.MaxInt32 {
			return node{index: int(number)}, nil
		}
		return nil, errkind.New(errkind.BadRequest, "want the number of a component of the path")
	}
	return node{tag: text}, nil
}

// at returns the value of a parameter, or the zero of its type.
func at[T any](c *call, name string) T {
	var v T
	if values := c.args[name].values; len(values) > 0 {
		v, _ = values[0].(T) // bind has checked the type
	}
	return v
}

func (c *call) has(name string) bool {
	a := c.args[name]
	return len(a.values)+len(a.exprs) > 0
}

func (c *call) str(name string) string     { return at[string](c, name) }
func (c *call) num(name string) float64    { return at[float64](c, name) }
func (c *call) integer(name string) int    { return at[int](c, name) }
func (c *call) flag(name string) bool      { return at[bool](c, name) }
func (c *call) interval(name string) int64 { return at[int64](c, name) }
func (c *call) window(name string) window  { return at[window](c, name) }

// agg returns the aggregate that a parameter names.
func (c *call) agg(name string) aggregator { return consolidator(c.str(name)) }

func all[T any](c *call, name string) []T {
	list := make([]T, 0, len(c.args[name].values))
	for _, v := range c.args[name].values {
		list = append(list, v.(T)) // bind has checked the type
	}
	return list
}

// fail returns an error of the function.
func (c *call) fail(format string, args ...any) error {
	return errkind.New(errkind.BadRequest, "cannot evaluate %s(): %w", c.fn.Name, errkind.New(errkind.BadRequest, format, args...))
}

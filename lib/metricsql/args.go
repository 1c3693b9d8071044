package metricsql

import (
	"fmt"
	"strings"

	"vmcluster/lib/errkind"
)

// CheckArgs checks the number of arguments of a *FuncExpr or an *AggrExpr, and that
// strings stand where strings are wanted. Its errors are of kind Unprocessable:
// they belong to evaluation, since calls which are never evaluated do not fail. Other
// nodes always pass.
func CheckArgs(e Expr) error {
	name, args := "", []Expr(nil)
	switch e := e.(type) {
	case *FuncExpr:
		name, args = e.Name, e.Args
	case *AggrExpr:
		name, args = e.Name, e.Args
	default:
		return nil
	}
	s, ok := signatureOf(name)
	if !ok {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s: unsupported function %q", String(e), name)
	}
	if want := s.checkCount(len(args)); want != "" {
		return errkind.New(errkind.Unprocessable, "cannot evaluate %s(): unexpected number of args; got %d; want %s, as in %[1]s(%[4]s)", name, len(args), want, s.usage())
	}
	for i, arg := range args {
		if err := checkArg(s.argAt(i, len(args)), arg); err != nil {
			return errkind.New(errkind.Unprocessable, "cannot evaluate %s(): argument %d is %s: %w", name, i+1, String(arg), err)
		}
	}
	return nil
}

// usage returns what the arguments stand for.
func (s signature) usage() string {
	var b strings.Builder
	for i := range len(s.args) {
		if i > 0 {
			b.WriteString(", ")
		}
		switch s.args[i] {
		case 's':
			b.WriteString("number")
		case 't', 'T':
			b.WriteString(`"text"`)
		case 'r':
			b.WriteString("q[5m]")
		default:
			b.WriteString("q")
		}
		if s.middle && i == 1 || s.repeat > 0 && i == len(s.args)-1 {
			b.WriteString(", ...")
		}
	}
	return b.String()
}

// checkCount returns an empty string if n arguments are fine, else what is wanted.
func (s signature) checkCount(n int) string {
	switch {
	case s.middle || s.repeat == 1:
		if n < s.min {
			return fmt.Sprintf("at least %d", s.min)
		}
	case s.repeat > 1:
		if n < s.min || (n-s.min)%s.repeat != 0 {
			return fmt.Sprintf("%d plus a multiple of %d", s.min, s.repeat)
		}
	case s.min == len(s.args):
		if n != s.min {
			return fmt.Sprint(s.min)
		}
	default:
		if n < s.min || n > len(s.args) {
			return fmt.Sprintf("from %d to %d", s.min, len(s.args))
		}
	}
	return ""
}

// argAt returns the letter of argument i of n.
func (s signature) argAt(i, n int) byte {
	if s.middle {
		switch i {
		case 0:
			return s.args[0]
		case n - 1:
			return s.args[2]
		}
		return s.args[1]
	}
	if i < len(s.args) {
		return s.args[i]
	}
	start := len(s.args) - s.repeat
	return s.args[start+(i-start)%s.repeat]
}

func checkArg(want byte, arg Expr) error {
	switch want {
	case 't':
		if _, ok := arg.(*StringExpr); !ok {
			return errkind.New(errkind.Unprocessable, "want a string constant")
		}
	case 'T':
		if _, ok := StringList(arg); !ok {
			return errkind.New(errkind.Unprocessable, `want a string constant, or several as ("a", "b")`)
		}
	}
	return nil
}

// StringList returns the values of a string constant or of a list of them: "a" or ("a", "b").
func StringList(e Expr) ([]string, bool) {
	switch e := e.(type) {
	case *StringExpr:
		return []string{e.Value}, true
	case *FuncExpr:
		if e.Name != "" && e.Name != "union" || len(e.Args) == 0 {
			return nil, false
		}
		var list []string
		for _, arg := range e.Args {
			s, ok := arg.(*StringExpr)
			if !ok {
				return nil, false
			}
			list = append(list, s.Value)
		}
		return list, true
	}
	return nil, false
}

// RollupArgIndex returns which argument of a rollup function is the one under
// the rollup, or -1 if f is no rollup function. The index may lie
// beyond the arguments if there are too few.
func RollupArgIndex(f *FuncExpr) int {
	s, ok := signatureOf(f.Name)
	if !ok || s.kind != KindRollup {
		return -1
	}
	if s.middle {
		return max(len(f.Args)-1, 0)
	}
	return strings.IndexByte(s.args, 'r')
}

// ScalarArg reports whether argument i of a function must be a scalar: exactly one series.
func ScalarArg(f *FuncExpr, i int) bool {
	s, ok := signatureOf(f.Name)
	return ok && i < len(f.Args) && s.checkCount(len(f.Args)) == "" && s.argAt(i, len(f.Args)) == 's'
}

package archtest

import (
	"go/ast"
	"slices"
	"testing"
)

// The size ratchet of docs/STYLE.md.
const (
	maxFunctionLines    = 70
	maxFunctionLinesP95 = 50
	maxFileLines        = 800
	maxNesting          = 3
	maxParameters       = 5
)

func TestSizes(t *testing.T) {
	var lengths []int
	for _, f := range productFiles(t) {
		if f.lines > maxFileLines {
			t.Errorf("%s has %d lines; split it below %d", f.path, f.lines, maxFileLines)
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lengths = append(lengths, f.lineCount(fn))
			checkFunction(t, f, fn)
		}
	}
	slices.Sort(lengths)
	if p95 := lengths[len(lengths)*95/100]; p95 > maxFunctionLinesP95 {
		t.Errorf("the 95th percentile of function lengths is %d lines; keep it below %d", p95, maxFunctionLinesP95)
	}
}

func checkFunction(t *testing.T, f *sourceFile, fn *ast.FuncDecl) {
	t.Helper()
	if n := f.lineCount(fn); n > maxFunctionLines && !allowed(fn.Doc, "length") {
		t.Errorf("%s:%d: function %s has %d lines; split it below %d", f.path, f.line(fn), fn.Name.Name, n, maxFunctionLines)
	}
	if n := fn.Type.Params.NumFields(); n > maxParameters && !allowed(fn.Doc, "parameters") {
		t.Errorf("%s:%d: function %s has %d parameters; pass an options struct instead of more than %d", f.path, f.line(fn), fn.Name.Name, n, maxParameters)
	}
	if n := nesting(fn.Body); n > maxNesting && !allowed(fn.Doc, "nesting") {
		t.Errorf("%s:%d: function %s nests %d blocks; return early or split it to stay within %d", f.path, f.line(fn), fn.Name.Name, n, maxNesting)
	}
}

// nesting returns how deep control blocks stand inside each other. An else-if
// chain is one level; a function literal starts anew.
func nesting(body ast.Node) int {
	deepest := 0
	var visit func(n ast.Node, depth int)
	visit = func(n ast.Node, depth int) {
		deepest = max(deepest, depth)
		ast.Inspect(n, func(child ast.Node) bool {
			if child == nil || child == n {
				return true
			}
			switch c := child.(type) {
			case *ast.FuncLit:
				visit(c.Body, 0)
				return false
			case *ast.IfStmt:
				visitIf(c, depth, visit)
				return false
			case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
				visit(c, depth+1)
				return false
			}
			return true
		})
	}
	visit(body, 0)
	return deepest
}

func visitIf(c *ast.IfStmt, depth int, visit func(ast.Node, int)) {
	visit(c.Body, depth+1)
	switch e := c.Else.(type) {
	case *ast.IfStmt:
		visitIf(e, depth, visit)
	case *ast.BlockStmt:
		visit(e, depth+1)
	}
}

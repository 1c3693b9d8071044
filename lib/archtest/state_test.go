package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEveryPackageHasDocGo(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range productFiles(t) {
		if seen[f.dir()] {
			continue
		}
		seen[f.dir()] = true
		doc, err := os.ReadFile(filepath.Join(root, f.dir(), "doc.go"))
		if err != nil || !strings.HasPrefix(string(doc), "//") {
			t.Errorf("%s has no doc.go which starts with the package comment", f.dir())
		}
	}
}

func TestNoHiddenStateUnderLib(t *testing.T) {
	for _, f := range productFiles(t) {
		if !strings.HasPrefix(f.path, "lib/") && !strings.HasPrefix(f.path, "app/internal/") {
			continue
		}
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s:%d: init functions hide state; construct it where it is used", f.path, f.line(d))
				}
			case *ast.GenDecl:
				checkVars(t, f, d)
			}
		}
		checkFlags(t, f)
	}
}

// checkVars refuses package variables, but for interface checks and error values.
func checkVars(t *testing.T, f *sourceFile, d *ast.GenDecl) {
	t.Helper()
	if d.Tok != token.VAR || allowed(d.Doc, "variable") {
		return
	}
	for _, spec := range d.Specs {
		v := spec.(*ast.ValueSpec)
		if v.Names[0].Name == "_" || isErrorValue(v) || allowed(v.Doc, "variable") {
			continue
		}
		t.Errorf("%s:%d: package variable %s; use a constant, a function that returns the value, or a field", f.path, f.line(v), v.Names[0].Name)
	}
}

func isErrorValue(v *ast.ValueSpec) bool {
	if len(v.Values) != 1 || !strings.HasPrefix(strings.ToLower(v.Names[0].Name), "err") {
		return false
	}
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	fn, ok := call.Fun.(*ast.SelectorExpr)
	return ok && fn.Sel.Name == "New"
}

// checkFlags refuses the process-wide flag set.
func checkFlags(t *testing.T, f *sourceFile) {
	t.Helper()
	ast.Inspect(f.ast, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		fn, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := fn.X.(*ast.Ident); ok && pkg.Name == "flag" && pkg.Obj == nil && fn.Sel.Name != "NewFlagSet" {
			t.Errorf("%s:%d: flag.%s uses the process-wide flag set; register on the *flag.FlagSet that is passed in", f.path, f.line(call), fn.Sel.Name)
		}
		return true
	})
}

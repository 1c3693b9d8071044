package metricsql

// Visit calls f for e and for all expressions below it, parents first. Where f
// returns false, it does not go below.
func Visit(e Expr, f func(Expr) bool) {
	if e == nil || !f(e) {
		return
	}
	switch e := e.(type) {
	case *RollupExpr:
		Visit(e.Expr, f)
		Visit(e.At, f)
	case *FuncExpr:
		for _, arg := range e.Args {
			Visit(arg, f)
		}
	case *AggrExpr:
		for _, arg := range e.Args {
			Visit(arg, f)
		}
	case *BinaryExpr:
		Visit(e.Left, f)
		Visit(e.Right, f)
	}
}

package cairn

import "context"

// Caller is whoever makes a request, as events tell of it.
type Caller struct {
	Account string // canonical ID, "" for nobody known
	Address string // from where
	Form    bool   // by a POST form
}

type callerKey struct{}

// WithCaller notes who makes the request that ctx is of.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns who makes the request; the zero value if nobody noted it.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

package inet6

// groups is the stack's memberships: which groups each interface listens to,
// and what of that the routers are still to be told (mld.go).
type groups struct{}

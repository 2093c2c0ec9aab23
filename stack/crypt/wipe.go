package crypt

import "reflect"

// wipe overwrites what the pointers, interfaces and slices in v lead to. The
// library's ciphers have no way to forget their keys; this goes through the
// fields of theirs. Nobody may use them meanwhile or afterwards.
func wipe(v any) { wipeValue(reflect.ValueOf(v)) }

func wipeValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Interface:
		if !v.IsNil() {
			wipeValue(v.Elem())
		}
	case reflect.Pointer:
		if !v.IsNil() {
			at := reflect.NewAt(v.Type().Elem(), v.UnsafePointer()).Elem()
			wipeValue(at)
			at.SetZero()
		}
	case reflect.Struct:
		for i := range v.NumField() {
			wipeValue(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() > 0 {
			at := reflect.NewAt(reflect.ArrayOf(v.Len(), v.Type().Elem()), v.UnsafePointer()).Elem()
			wipeValue(at)
			at.SetZero()
		}
	case reflect.Array:
		switch v.Type().Elem().Kind() {
		case reflect.Interface, reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Array:
			for i := range v.Len() {
				wipeValue(v.Index(i))
			}
		}
	}
}

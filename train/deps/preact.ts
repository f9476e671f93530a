/**
 * Components of a page.
 *
 * @module
 */
export { type ComponentChildren, h, type JSX, render } from "npm:preact@11.2.0";
export {
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "npm:preact@11.2.0/hooks";

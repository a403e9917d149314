//! Tests of the rules as a whole, through [`super::register`].

mod cases;
mod defects;
mod properties;
mod swap;
mod verdicts;

mod genesis;
mod rules;
mod setting;
